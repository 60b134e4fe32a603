//! What the server's processes cost, read from `/proc`, and what this process may open.
//!
//! Stands beside every mode, which asks before the load and after it.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{BenchError, Result};

/// CPU must stand still for so long before the server counts as quiet.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_TIMEOUT: Duration = Duration::from_secs(15);
/// Files that are open besides the connections.
const SPARE_FILES: usize = 64;
const POLL: Duration = Duration::from_millis(100);

/// The processes to account for; with none, every figure is absent.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pids: Vec<u32>,
}

/// Memory of the processes together, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Proportional set size: shared pages are counted in parts.
    pub(crate) pss: u64,
    /// Resident set size.
    pub(crate) rss: u64,
}

impl Server {
    /// Checks that every process can be read.
    pub(crate) fn new(pids: &[u32]) -> Result<Self> {
        let server = Self {
            pids: pids.to_vec(),
        };
        let read = server.cpu().and_then(|_| server.memory());
        match read {
            Ok(_) => Ok(server),
            Err(error) => Err(BenchError::usage(error)),
        }
    }

    /// CPU time used so far, in user and system mode, by all threads living and dead.
    pub(crate) fn cpu(&self) -> Result<Option<Duration>, String> {
        let mut ticks = 0;
        for pid in &self.pids {
            let stat = read(*pid, "stat")?;
            ticks += cpu_ticks(&stat).ok_or_else(|| format!("/proc/{pid}/stat is unreadable"))?;
        }
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok((!self.pids.is_empty()).then(|| Duration::from_secs_f64(seconds)))
    }

    /// Memory in use now.
    pub(crate) fn memory(&self) -> Result<Option<Memory>, String> {
        let mut sum = Memory { pss: 0, rss: 0 };
        for pid in &self.pids {
            let rollup = read(*pid, "smaps_rollup")?;
            let field = |name| {
                kibibytes(&rollup, name)
                    .ok_or_else(|| format!("/proc/{pid}/smaps_rollup has no {name}"))
            };
            sum.pss += field("Pss:")? * 1024;
            sum.rss += field("Rss:")? * 1024;
        }
        Ok((!self.pids.is_empty()).then_some(sum))
    }

    /// Waits until the server has nothing to do, so that late work is counted too.
    ///
    /// When stopped it does not wait.
    pub(crate) async fn quiet(&self, stop: &CancellationToken) -> Result<(), String> {
        let deadline = Instant::now() + QUIET_TIMEOUT;
        let mut since = Instant::now();
        let mut last = self.cpu()?;
        while since.elapsed() < QUIET && Instant::now() < deadline {
            if stop
                .run_until_cancelled(tokio::time::sleep(POLL))
                .await
                .is_none()
            {
                break;
            }
            let now = self.cpu()?;
            // One clock tick is what timers of an idle process may add up to.
            if now
                .zip(last)
                .is_some_and(|(now, last)| now > last + Duration::from_millis(10))
            {
                last = now;
                since = Instant::now();
            }
        }
        Ok(())
    }
}

fn read(pid: u32, file: &str) -> Result<String, String> {
    match std::fs::read_to_string(format!("/proc/{pid}/{file}")) {
        // A process that ended and was not waited for has empty files.
        Ok(text) if text.is_empty() => Err(format!("the process {pid} ended")),
        Ok(text) => Ok(text),
        Err(error) => Err(match error.raw_os_error() {
            // Not there at all, or ended while it was read.
            Some(2 | 3) => format!("there is no process {pid}"),
            _ => format!("cannot read /proc/{pid}/{file}: {error}"),
        }),
    }
}

/// Fields 14 and 15, counted after the command name, which may hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kibibytes(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find(|line| line.starts_with(name))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Allows as many sockets as the hard limit does; the soft one is often only 1,024.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Not allowed to: `check_limits` will say what is missing.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Fails before anything is sent when so many connections cannot be had.
pub(super) fn check_limits(connections: usize, addresses: u8, server_pids: &[u32]) -> Result<()> {
    let needed = connections + SPARE_FILES;
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < needed as u64
    {
        return Err(BenchError::usage(format!(
            "{connections} connections need {needed} open files, and the limit is {limit}: \
             run `ulimit -n {needed}` first, as root if it is refused"
        )));
    }
    // Of several processes it is not known which takes how many.
    if let [pid] = server_pids
        && let Some(limit) = file_limit_of(*pid)
        && limit < connections as u64
    {
        return Err(BenchError::usage(format!(
            "the server, process {pid}, may open only {limit} files, too few for {connections} connections: \
             start it after `ulimit -n {needed}`"
        )));
    }
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    if let Some(ports) = range.ok().and_then(|range| ports(&range)) {
        let wanted = connections.div_ceil(ports.max(1));
        if wanted > usize::from(addresses) {
            return Err(BenchError::usage(format!(
                "{connections} connections need more ports than the {ports} of one address: \
                 use --source-addresses {wanted} (targets on 127.0.0.1), or several machines"
            )));
        }
    }
    Ok(())
}

/// How many files another process may open.
fn file_limit_of(pid: u32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// How many ports the kernel gives out for one address and target.
fn ports(range: &str) -> Option<usize> {
    let mut bounds = range.split_ascii_whitespace().map(str::parse::<usize>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    (last + 1).checked_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_names_do_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 200 0 0 0 12 30 0 0 20 0 1 0 99 1 2";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn reads_its_own_process() {
        let server = Server::new(&[std::process::id()]).unwrap();
        let memory = server.memory().unwrap().unwrap();
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert!(file_limit_of(std::process::id()).is_some());
        assert!(memory.pss > 0 && memory.rss >= memory.pss);
        assert!(Server::new(&[]).unwrap().cpu().unwrap().is_none());
    }
}
