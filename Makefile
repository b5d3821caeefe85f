# One line a target; each installs what it needs into $(VENV). `VENV=` (empty) uses the active environment.
#   make bench METHOD=mavil [DATA=/datasets] [GPUS=8] [NODES=1] [PRESET=paper] [SEED=0] [STORE=s3://…] [ARGS="key=value …"]
#   make sweep METHOD="mavil mbt" [as above] [SEED="0 1 2"] [ARGS="key=value … --data vggsound --launcher slurm …"]
PYTHON ?= python3
VENV ?= .venv
PY = $(if $(VENV),$(VENV)/bin/python,$(PYTHON))
INSTALLED = $(if $(VENV),$(VENV)/installed)
TESTABLE = $(if $(VENV),$(VENV)/installed-test)
TWO_AT_A_TIME = -n 2 --dist loadfile --no-loadscope-reorder
METHOD ?= mavil
OPTIONS = $(if $(DATA),data_root=$(DATA)) $(if $(GPUS),trainer.devices=$(GPUS)) $(if $(NODES),trainer.nodes=$(NODES)) \
          $(if $(PRESET),preset=$(PRESET)) $(if $(STORE),store=$(STORE))

.PHONY: help setup bench sweep sample test test-slow leaderboard page docs regress lint
help:         ## what there is to make
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'
setup: $(INSTALLED)  ## install into $(VENV)
bench: $(INSTALLED)  ## train and measure METHOD, print the boards
	$(PY) -m bench run $(METHOD) $(OPTIONS) $(if $(SEED),seed=$(SEED)) $(ARGS)
sweep: $(INSTALLED)  ## train and measure several METHODs with several SEEDs, as jobs
	$(PY) -m bench sweep $(METHOD) $(OPTIONS) $(ARGS) $(if $(SEED),--seeds $(SEED))
sample: $(INSTALLED)  ## make the sample data
	$(PY) -m bench data sample
leaderboard: $(INSTALLED)  ## rebuild and print all boards
	$(PY) -m bench table $(if $(STORE),--store $(STORE))
page: $(INSTALLED)  ## write the boards, methods and runs as one page, leaderboards/page.html
	$(PY) -m bench page
docs: $(INSTALLED)  ## make the tables of datasets, boards and methods in README.md and docs/ anew
	$(PY) -m bench docs
regress: $(INSTALLED)  ## has a change made anything worse? (GNU make turns the exit status 1 into 2)
	$(PY) -m bench regress $(ARGS)
test: $(TESTABLE)  ## run the tests, but for the slow ones
	$(PY) -m pytest -m 'not slow' $(TWO_AT_A_TIME) $(ARGS)
test-slow: $(TESTABLE)  ## run the slow ones: full size, kills, several processes, Slurm, browser, fuzzing
	$(PY) -m pytest -m slow $(TWO_AT_A_TIME) $(ARGS)
lint: $(TESTABLE)  ## check style, types, imports and spelling
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(if $(VENV),$(VENV)/bin/)lint-imports
	$(PY) -m codespell_lib

$(VENV)/installed: setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "AVL-Bench needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@
$(VENV)/installed-test: $(VENV)/installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	@touch $@
