//! Command line of the load generator.

use anyhow::Context;
use clap::Parser;
use seam_load::{Load, Options};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let json = options.json.clone();
    let report = Load::spawn(options)?.join()?;
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report).context("report")?;
        std::fs::write(&path, text + "\n")
            .with_context(|| format!("report file {}", path.display()))?;
    }
    println!("{report}");
    Ok(())
}
