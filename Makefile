# make demo    see it work, on stand-ins that run on this machine (make demo CONFIG=my.yaml: your own configuration)
# make test    formatting, lint, types and every test; then the tests of the core on each other CPython from 3.10 on that
#              is here, on PATH or in pyenv, but for those marked slow, which run whole processes for long
# make bench   the figures of bench/RESULTS.md (make bench FLAGS="--quick": a first look)
# make soak    ten minutes of faults, kills and writers, and what was lost in them (make soak SECONDS=60: shorter)
# make component   the Greengrass component, in greengrass-build/ (make component BUCKET=my-artifacts: where its zip
#              will be; WHEELS="cp311-aarch64 cp312-x86_64": with the packages for devices that have no network)
# make clean   away with everything that these have made
.PHONY: demo test other-pythons bench soak component clean

# Tests start hundreds of processes; none shall compile again what another has.
unexport PYTHONDONTWRITEBYTECODE

demo: .venv/ready
	@.venv/bin/python examples/demo.py $(if $(CONFIG),--config "$(CONFIG)")

test: .venv/ready .venv-sam/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -n 4 --dist worksteal
	@mine=$$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		others=$$(.ci/pythons | cut -d " " -f 1 | grep -vx "$$mine" | tr "\n" " "); \
		$(MAKE) --no-print-directory other-pythons OTHERS="$$others"

CORE = tests/pure tests/parts tests/store tests/direct tests/wire

other-pythons:
	@test -z "$(OTHERS)" || $(MAKE) --no-print-directory -j 2 $(OTHERS:%=.venv-%/ready)
	@for version in $(OTHERS); do \
		echo "Python $$version, the core, all tests but the slow ones:"; \
		.venv-$$version/bin/python -m pytest -n 4 --dist worksteal -m "not slow" -p no:cacheprovider $(CORE) || exit 1; \
	done

bench: .venv/ready
	-.venv/bin/python bench/streams.py $(FLAGS)
	-.venv/bin/python bench/cycle.py $(FLAGS)
	-.venv/bin/python bench/routes.py $(FLAGS)
	.venv/bin/python bench/direct.py $(FLAGS)

soak: .venv/ready
	.venv/bin/python bench/soak.py --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

component: .venv/ready
	@.venv/bin/python -m tools.component --bucket "$(BUCKET)" --wheels "$(WHEELS)" $(FLAGS)

clean:
	rm -rf .venv .venv-* build zip-build greengrass-build src/*.egg-info
	rm -rf cloud/.aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment .venv is made with the Python to prefer, .venv-3.x with that version.
define make_venv
@python=$$(.ci/pythons | awk '$(1) { print $$2; exit }') && test -n "$$python" && \
	echo "making $(@D) with $$python" && "$$python" -m venv $(@D)
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements_dev.txt
@touch $@
endef

# That of the cloud app is made with the Python of its Lambdas if that is here: `sam build` asks for it.
.venv-sam/ready: requirements_sam.txt
	@python=$$(.ci/pythons | awk '$$1 == "3.13" { found = $$2 } NR == 1 { first = $$2 } END { print found ? found : first }') && \
		test -n "$$python" && echo "making $(@D) with $$python" && "$$python" -m venv $(@D) && \
		{ $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r $< || \
		{ echo "the tests of the cloud app need aws-sam-cli from PyPI, which cannot be reached" >&2; exit 1; }; } && \
		touch $@

.venv/ready: requirements.txt requirements_dev.txt
	$(call make_venv,1)

.venv-%/ready: requirements.txt requirements_dev.txt
	$(call make_venv,$$1 == "$*")
