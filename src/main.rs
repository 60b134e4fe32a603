//! The `wsgw` command.

use std::process::ExitCode;

// Chosen by measurement: it gives back what a wave of connections or of large messages took, which the C library's keeps
// (docs/performance.md). Its thread in the background does so while nothing else happens.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    wsgw::cli::main()
}
