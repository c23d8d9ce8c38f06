# Both targets do all their own set-up in .venv; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check docs wheel clean

demo: $(READY)
	$(BIN)/earsight demo -o demo-run $(DEMO)

test: $(READY) check
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 40
	$(MAKE) --no-print-directory docs wheel

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

wheel: $(READY)
	rm -rf build/wheel
	$(BIN)/python -m build --wheel --outdir build/wheel . >build/wheel.log 2>&1 || (cat build/wheel.log; exit 1)
	$(BIN)/python tests/try_wheel.py build/wheel

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	# Tests start many processes; where Python keeps no bytecode, each would compile all modules.
	$(BIN)/python -m compileall -q src
	mkdir -p build
	touch $(READY)

clean:
	rm -rf .venv build
