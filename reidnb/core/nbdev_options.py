"nbdev exports cells that begin with `#| options` to a module of their own, `<module>_options`, which imports no torch."

from nbdev.config import get_config
from nbdev.maker import ModuleMaker
from nbdev.process import Processor


class OptionsProcessor(Processor):
    "Collects a notebook's options cells and writes their module."

    def __init__(self, nb):
        super().__init__(nb)
        self.cells, self.module = [], None

    def cell(self, cell):
        directives = getattr(cell, "directives_", None) or {}
        if "default_exp" in directives:
            self.module = directives["default_exp"].split()[0]
        if "options" in directives:
            self.cells.append(cell)

    def end(self):
        if self.cells:
            module = ModuleMaker(get_config().lib_path, f"{self.module}_options", self.nb.path_, is_new=True)
            module.make(self.cells, self.cells, lib_path=get_config().lib_path)
