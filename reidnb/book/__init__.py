"Regenerate tables, execute their notebooks, write the results book."
