//! What the server's processes cost, read from `/proc`.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use crate::Result;

/// CPU must stand still for so long before the server counts as quiet.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_TIMEOUT: Duration = Duration::from_secs(15);
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
        server.cpu()?;
        server.memory()?;
        Ok(server)
    }

    /// CPU time used so far, in user and system mode, by all threads living and dead.
    pub(crate) fn cpu(&self) -> Result<Option<Duration>> {
        let mut ticks = 0;
        for pid in &self.pids {
            let stat = read(*pid, "stat")?;
            ticks += cpu_ticks(&stat).ok_or_else(|| format!("/proc/{pid}/stat is unreadable"))?;
        }
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok((!self.pids.is_empty()).then(|| Duration::from_secs_f64(seconds)))
    }

    /// Memory in use now.
    pub(crate) fn memory(&self) -> Result<Option<Memory>> {
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
    pub(crate) async fn quiet(&self) -> Result<()> {
        let deadline = Instant::now() + QUIET_TIMEOUT;
        let mut since = Instant::now();
        let mut last = self.cpu()?;
        while since.elapsed() < QUIET && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
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

fn read(pid: u32, file: &str) -> Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|error| format!("cannot read /proc/{pid}/{file}: {error}").into())
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
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Not allowed to: `check_file_limit` will say what is missing.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Fails early when so many sockets cannot be opened at all.
pub(crate) fn check_file_limit(sockets: usize) -> Result<()> {
    let spare = 64;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if (limit as usize) < sockets + spare => Err(format!(
            "{sockets} connections need more open files than the limit of {limit} allows"
        )
        .into()),
        _ => Ok(()),
    }
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
        assert!(memory.pss > 0 && memory.rss >= memory.pss);
        assert!(Server::new(&[]).unwrap().cpu().unwrap().is_none());
    }
}
