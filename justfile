# What one does most here, by https://just.systems. `just` alone lists it. Each recipe is a plain command: just is not needed.

_list:
    @just --list

# Formats all code
fmt:
    cargo fmt --all

# Checks the format, clippy with warnings as errors, and that every dependency is used and allowed (cargo-shear, cargo-deny)
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo shear --locked --deny-warnings
    cargo deny --locked check -D unmatched-skip bans licenses sources

# Runs the tests of every package, or as told: just test -p ledger
test *ARGS="--workspace":
    cargo test {{ ARGS }}

# Runs the system's tests on real binaries and servers: all, or those with FILTER in their path
e2e FILTER="":
    cargo test -p tests {{ FILTER }}

# Measures the pipeline (or recovery, or remotes); docs/performance.md says how to read the figures
bench NAME="pipeline" *ARGS:
    cargo bench -p tests --bench {{ NAME }} {{ if ARGS == "" { "" } else { "-- " + ARGS } }}

# Sends a file from prepare to receipt: just demo [FILE] [--to s3]
demo *ARGS:
    cargo demo {{ ARGS }}

# Runs everything that must pass before a change is taken
ci:
    .ci/run
