//! The `stepfleet` program, built with the integration tests so that they can start and kill it.

fn main() -> std::process::ExitCode {
    stepfleet_coordinator::cli::main()
}
