# Two commands: `make demo` and `make test`. Both set up everything they need in .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo_out
COCO ?=

.PHONY: demo test bench formats chaos browser lint setup clean

setup: $(VENV)/.installed

# The constraints pin what the dependencies depend on, so that a fresh machine gets the versions the tests passed with.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/python jobs/demo.py --out $(OUT) $(if $(COCO),--coco $(COCO))

test: setup browser
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Pages are tested in a real browser: the machine's Chromium, else Debian's package or Playwright's own, where either can be had. Without one these
# tests are skipped, and say so.
browser: setup
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 || \
	  $(BIN)/python -m playwright install chromium >/dev/null 2>&1 || echo "no browser could be installed: tests of pages will be skipped"

bench: setup
	$(BIN)/python -m benchmarks

# Every exchange format both ways against a second implementation of it, on 2,000 extreme persons: formats.json, some three minutes.
formats: setup
	$(BIN)/python -m benchmarks.formats

# Training under SIGKILL and on a cluster that shrinks and grows, a pool that grows with its cluster, annotation that loses a node: some fifteen
# minutes; then annotation under every fault, about an hour. Not part of the tests, which have a small version of most.
chaos: setup
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m tests.chaos.kills
	$(BIN)/python -m tests.chaos.elastic
	$(BIN)/python -m tests.chaos.layouts
	$(BIN)/python -m tests.chaos.pool
	$(BIN)/python -m tests.chaos.nodes
	$(BIN)/python -m tests.chaos.annotation

lint: setup
	$(BIN)/python -m ruff check .

clean:
	rm -rf $(VENV) $(OUT)
