.PHONY: demo test build

# Installs what is missing, builds ci, and shows an Erlang release being built, tested, installed over SSH and
# upgraded hot. Cleans up after itself.
demo:
	scripts/demo.sh

# Installs what is missing and runs the whole suite.
test:
	scripts/test.sh

build:
	cargo build --release
