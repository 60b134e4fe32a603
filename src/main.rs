//! The `wsgw` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    wsgw::cli::main()
}
