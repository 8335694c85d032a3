# One command per action, the same for people and for CI. `make help` lists them.
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
UV_PIN := 0.13.9
# uv does not read pip's variable; a wheel that is offered to pip is offered to uv too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export DO_NOT_TRACK := 1
RECIPE ?= support-desk
comma  := ,

.PHONY: help run test lint bench clean setup
help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

run: $(STAMP) ## retrain, judge and promote RECIPE (default support-desk)
	@$(BIN)/millrace run $(RECIPE)

test: $(STAMP)-dev ## all tests, two files at a time
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(STAMP)-dev ## ruff and mypy --strict
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(STAMP)-dev-bench ## benchmarks, side by side with their peers
	@$(BIN)/python -m pytest tests/bench -s -p no:cacheprovider --ignore= $(ARGS)

clean: ## remove the environment, caches and every stage output (not the model store)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache checkpoints build *.egg-info
	git clean -fdXq data

setup: $(STAMP) ## the environment of `make run`
# .installed-dev is the environment with the extra `dev`, .installed-dev-bench the one with `dev` and `bench`
$(STAMP) $(STAMP)-dev $(STAMP)-dev-bench: pyproject.toml constraints.txt
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_PIN)
	@test -n "$$UV_FIND_LINKS" || unset UV_FIND_LINKS; \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt \
	  --editable '.$(if $(findstring dev,$@),[dev$(if $(findstring bench,$@),$(comma)bench)])'
	@touch $@
