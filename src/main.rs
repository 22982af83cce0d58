//! The program: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    foldsync::cli::run(std::env::args_os()).into()
}
