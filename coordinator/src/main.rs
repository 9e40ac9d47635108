//! `stepfleet`: the coordinator, a fleet for development, and the command line.

fn main() -> std::process::ExitCode {
    stepfleet_coordinator::cli::main()
}
