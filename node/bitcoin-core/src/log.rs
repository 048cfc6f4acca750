//! Bitcoin Core's log, line by line, into `tracing`.

use tracing::{debug, error, info, trace, warn};

/// Passes on one line as Core writes it to `debug.log`.
pub(crate) fn forward(line: &str) {
    let (level, text) = parse(line);
    match level {
        Level::Error => error!(target: "bitcoin", "{text}"),
        Level::Warn => warn!(target: "bitcoin", "{text}"),
        Level::Info => info!(target: "bitcoin", "{text}"),
        Level::Debug => debug!(target: "bitcoin", "{text}"),
        Level::Trace => trace!(target: "bitcoin", "{text}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Core's callbacks get formatted text only, `TIME [CATEGORY:LEVEL] MESSAGE`; without category and
/// level it is information, with a category alone it is debugging. The time is dropped: a
/// subscriber has its own.
fn parse(line: &str) -> (Level, &str) {
    let line = without_time(line.trim_end());
    let Some((tag, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else {
        return (Level::Info, line);
    };
    let level = tag.rsplit(':').next().unwrap_or(tag);
    match level {
        "error" => (Level::Error, rest),
        "warning" => (Level::Warn, rest),
        "info" => (Level::Info, rest),
        // The category stays: it says which part of Core speaks.
        "trace" => (Level::Trace, line),
        _ if tag.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b':' | b'_')) => {
            (Level::Debug, line)
        }
        // Brackets of the message itself.
        _ => (Level::Info, line),
    }
}

fn without_time(line: &str) -> &str {
    let is_time = |word: &str| {
        word.len() >= 20
            && word.ends_with('Z')
            && word.as_bytes()[10] == b'T'
            && word.bytes().take(4).all(|byte| byte.is_ascii_digit())
    };
    match line.split_once(' ') {
        Some((word, rest)) if is_time(word) => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_found_in_the_text() {
        let time = "2026-01-02T03:04:05Z";
        for (line, expected) in [
            ("[error] Disk space is low", (Level::Error, "Disk space is low")),
            ("[warning] odd", (Level::Warn, "odd")),
            ("UpdateTip: new best", (Level::Info, "UpdateTip: new best")),
            ("[net] sending inv", (Level::Debug, "[net] sending inv")),
            ("[net:trace] bytes", (Level::Trace, "[net:trace] bytes")),
            ("[validation:warning] odd", (Level::Warn, "odd")),
            ("[0%]...[100%]", (Level::Info, "[0%]...[100%]")),
            ("", (Level::Info, "")),
        ] {
            assert_eq!(parse(line), expected);
            assert_eq!(parse(&format!("{time} {line}\n")).0, expected.0, "{line}");
        }
        assert_eq!(parse("2026-01-02T03:04:05.123456Z x").1, "x");
        assert_eq!(parse("é é").1, "é é");
    }
}
