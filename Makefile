# Python 3.11 and make are all that these targets assume; everything else is installed in .venv.

BIN := .venv/bin

# Keep the libraries' start-up notices out of what the targets print.
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_ENABLE_ONEDNN_OPTS ?= 0
export JUPYTER_PLATFORM_DIRS ?= 1

.PHONY: install train test docs export clean-notebooks readme lock

install: .venv/installed

.venv/installed: requirements.lock settings.ini setup.py
	@for python in $(PYTHON) python3.11 python3 python; do \
	  $$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && break; python=; done; \
	test -n "$$python" || { echo "Python 3.11 is needed and was not found: install it, or say PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	echo "Installing into .venv (a few minutes)" && $$python -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Build the default data once, train, and name the report and the models: make train ARGS="--model-type rf"
train: install
	@$(BIN)/datacloak-train $(ARGS)

# Lint, run the notebooks of the library, then the tests; the tests also check that what is generated is in sync.
test: install
	$(BIN)/ruff check
	$(BIN)/nbdev_test --file_re '^([0-9]|index|explore)'
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

# The documentation site, in site/: open site/index.html
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

export: install
	$(BIN)/nbdev_export

clean-notebooks: install
	$(BIN)/nbdev_clean

readme: install
	$(BIN)/jupyter nbconvert --to markdown --output-dir . --output README nbs/index.ipynb

# Renew the lock from the ranges in settings.ini; pins that still fit stay: make lock ARGS=--upgrade renews them all.
lock: install
	$(BIN)/uv pip compile pyproject.toml --extra dev --output-file requirements.lock --no-config \
	  --python-version 3.11 --python-platform linux --annotation-style line --custom-compile-command "make lock" $(ARGS)
