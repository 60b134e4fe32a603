//! The page `docs/diagnostics.md`, from the table of codes.
//!
//! Beside the data path: a test keeps the page fresh.

use std::fmt::Write as _;

use super::TABLE;

/// Renders the table as `docs/diagnostics.md`.
#[must_use]
pub fn render() -> String {
    let mut page = String::from(
        "# Diagnostics\n\n<!-- Generated from src/config/codes.rs; refresh with `UPDATE_DOCS=1 cargo test --test config`. -->\n\n\
         `wsgw check` prints every problem of a pipeline file at once, with its place, its code and mostly a hint. \
         Errors keep a file from being used; warnings do not, unless `--deny-warnings` says so. A code never \
         changes its meaning, so that scripts can rely on it.\n\n\
         | code | severity | means | do |\n|---|---|---|---|\n",
    );
    for code in TABLE {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            code.name, code.severity, code.meaning, code.action
        );
    }
    page.push_str(SYMFONY);
    page
}

/// What the page says about `check --symfony`.
const SYMFONY: &str = "\n## Comparing with the Symfony bundle\n\n\
    `wsgw check --symfony config/packages/snoke_ws.yaml pipelines/terminator.yaml` also compares each pipeline \
    file with the bundle's; the codes that begin with `symfony_` come from there, with places in the bundle's file.\n\n\
    - Only the top-level `snoke_ws` is compared. Sections below `when@prod` and the like are not.\n\
    - `%env(NAME)%` is taken from the environment of `check`, also with the processors `string`, `trim`, `bool`, \
    `int` and `default`. A variable that is unset there, another processor or a `%parameter%` makes a value \
    unknown, and what is unknown is not compared. Symfony's `.env` files are not read.\n\
    - Of `transport` and `events` the settings of the chosen `type` are compared, a broker's only where the gateway uses \
    that broker; of `presence` the prefix, where both sides keep it in Redis. DSNs are not compared: the two sides may \
    know one server by different names. A missing secret or API key counts as empty; any other missing key is not compared.\n\
    - Keys that the gateway has nothing to do with are Symfony's business.\n";
