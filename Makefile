# make table: regenerate a first table; make test: all checks; make lab: the tour in JupyterLab.
BIN = .venv/bin
export OMP_NUM_THREADS = 1

.PHONY: help table test lab notebooks clean
help:
	@echo "make table   regenerate a first table on drawn data, about five minutes with the installation"
	@echo "make lab     open the tour in JupyterLab"
	@echo "make test    run every check that CI runs"

table: .venv/.table
	$(BIN)/reidnb table market-backbones --preset mini --local --rows r50-01,r50-03,r50-04,r50-05,r50-07,r50-08,r50-09,r50-16,r50-17

lab: .venv/.lab
	$(BIN)/jupyter lab nbs/index.ipynb

test: .venv/.dev
	sh tests/run.sh $(BIN)

# after editing notebooks: modules, clean notebooks, formatted code
notebooks: .venv/.dev
	$(BIN)/ruff format --quiet nbs reports
	$(BIN)/jupyter nbconvert --clear-output --inplace --log-level=ERROR $$(find nbs reports -name '*.ipynb' -not -path '*checkpoints*')
	$(BIN)/nbdev-clean
	$(BIN)/nbdev-clean --fname reports
	$(BIN)/nbdev-export

.venv/.table .venv/.lab .venv/.dev: pyproject.toml constraints.txt setup.sh
	@sh setup.sh $(@F)

clean:
	rm -rf store build dist

# the README's pictures, from the generator and the published records
.PHONY: pictures
pictures: .venv/.table
	$(BIN)/papermill reports/pictures.ipynb store/pictures.ipynb -p folder reports/pictures -p preset mini -p seeds 0,1,2 -p cut vpm,translations --cwd . --no-progress-bar
