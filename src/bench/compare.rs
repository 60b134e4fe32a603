//! How one benchmark's figures relate to another's.
//!
//! Stands behind `outcome`, whose results it reads back.

use std::io::Write;

use super::args::CompareArgs;
use super::outcome::{self, Outcome};
use super::{BenchError, Ended, Result};

/// Prints the ratios of the medians; fails when either benchmark has no runs.
pub(crate) fn run(args: &CompareArgs, out: &mut dyn Write) -> Result<Ended> {
    let outcomes = outcome::load(&args.files)?;
    let figures = |label: &str| {
        let runs: Vec<&Outcome> = outcomes.iter().filter(|run| run.label == label).collect();
        let of = |figure: fn(&Outcome) -> Option<f64>| {
            median(runs.iter().filter_map(|run| figure(run)).collect())
        };
        let speed =
            of(|run| Some(run.per_second)).ok_or_else(|| format!("no run is called {label}"))?;
        Ok::<_, String>([Some(speed), of(|run| run.cpu_us_per_unit)])
    };
    let (base, other) = (figures(&args.base)?, figures(&args.other)?);
    for (what, (base, other)) in ["speed", "CPU each"].iter().zip(base.iter().zip(other)) {
        if let Some((base, other)) = base.zip(other) {
            writeln!(
                out,
                "{what} of {} to {}: {:.2} ({other:.2} to {base:.2})",
                args.other,
                args.base,
                other / base
            )
            .map_err(BenchError::Output)?;
        }
    }
    Ok(Ended::Well)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
    }
}
