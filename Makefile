# Each target is a line over `python -m autograder …`; README.md says what they do.
PYTHON ?=
RUN = .venv/bin/python -m autograder

.PHONY: help setup fetch demo test debug kernels verify bench grade serve submit stubs release bundle doctor figures clean

help:            ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready   ## make .venv with the pinned packages; every target below needs it

.venv/.ready: requirements.lock scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh

test: setup      ## HW=hw1_autodiff [K=expr] [SEED=n]: public tests on your code; without HW: check everything
	@$(if $(HW),$(RUN) test $(HW) $(if $(K),-k "$(K)") $(if $(SEED),--seed $(SEED)),$(RUN) check)

debug: setup     ## HW=… K=test_name: the same tests in one process, for breakpoint() and --pdb
	@$(RUN) debug $(HW) "$(K)"

kernels: setup   ## HW=hw2_cuda_kernels [K=transpose]: counts and pictures of your kernels
	@$(RUN) kernels $(HW) "$(K)"

submit: setup    ## HW=…: write the zip to upload, and grade it once with the public tests
	@$(RUN) submit $(HW)

doctor: setup    ## what this machine can do, and what each missing thing costs
	@$(RUN) doctor

fetch: setup     ## [HW=…]: real data (model weights, texts) that homeworks use, into a cache folder
	@$(RUN) fetch $(HW)

bench: setup     ## [ONLY=name]: the benchmark tables, ratios against peers measured in one run
	@$(RUN) bench $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))
# <!-- staff -->

serve: setup     ## [ARGS="--tiny"]: homework 5's server, for every client that speaks OpenAI's API
	@cd hw5_serving && ../.venv/bin/python serve.py $(ARGS)

demo: setup      ## release, fill in, submit, grade confined, report: the whole way, on homework 1
	@$(RUN) demo

grade: setup     ## HW=… SUBMISSION=path [OUT=dir]: public and hidden tests, confined
	@$(RUN) grade $(HW) --submission "$(SUBMISSION)" --out "$(or $(OUT),results/$(HW))"

stubs: setup     ## write the stubs from the marked reference
	@$(RUN) stubs

release: setup   ## [OUT=dir]: the student repository, with the proof that nothing hidden leaks
	@$(RUN) release --out "$(or $(OUT),release)"

bundle: setup    ## HW=…: the Gradescope autograder zip, laid out and checked as Gradescope would
	@$(RUN) bundle $(HW)

verify: setup    ## the exhaustive checks: all mutants under all tests, both transports, busy machine
	@$(RUN) check --full

figures: setup   ## draw the handouts' figures anew
	@for script in hw*/figures/make_figures.py; do .venv/bin/python $$script; done
# <!-- /staff -->

clean:           ## remove what the targets made, the environment included
	rm -rf .venv results release build
