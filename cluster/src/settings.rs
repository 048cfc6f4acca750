//! Settings of a program: a TOML file, `SEAM_SECTION_KEY` over it, unknown keys refused.

mod values;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use self::values::{check_bounds, check_listeners, check_name, out_of_range, split_host_port};

/// Why a configuration is refused, in one line that names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Not TOML, or a value of the wrong type.
    #[error("{0}")]
    Invalid(String),
    /// A key that does not exist; the nearest that does is named.
    #[error("{0}")]
    UnknownKey(String),
    /// A value outside its limits.
    #[error("{0}")]
    OutOfRange(String),
}

/// The text of `file`, for [`parse`].
///
/// # Errors
/// [`SettingsError::Unreadable`], with the file's name.
pub fn read(file: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(file)
        .map_err(|error| SettingsError::Unreadable(format!("{}: {error}", file.display())))
}

/// Makes relative `paths` start where `file` is. Those that are not set stay so.
pub fn resolve<'a>(file: &Path, paths: impl IntoIterator<Item = &'a mut PathBuf>) {
    let base = file.parent().unwrap_or(Path::new("."));
    for path in paths {
        if !path.as_os_str().is_empty() && path.is_relative() {
            *path = base.join(&path);
        }
    }
}

/// Reads the text of a file and lays the environment over it. What `T::default()` serialises to
/// is what may be written: tables one deep, a default for every key.
///
/// # Errors
/// [`SettingsError`] for the first thing that is wrong. Ranges are the caller's to check.
pub fn parse<T: Serialize + DeserializeOwned + Default>(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, SettingsError> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map_or(String::new(), |line| format!("line {line}: "));
        SettingsError::Invalid(format!("{place}{}", error.message().replace('\n', " ")))
    })?;
    let known = Table::try_from(T::default()).expect("the default settings are a table");
    refuse_unknown(&table, &known)?;
    overlay(&mut table, &known, environment)?;
    Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        SettingsError::Invalid(error.to_string().trim().replace('\n', " "))
    })
}

fn refuse_unknown(table: &Table, known: &Table) -> Result<(), SettingsError> {
    for (name, value) in table {
        match (known.get(name), value) {
            (None, _) => return Err(unknown(name, known, known, "")),
            (Some(Value::Table(section)), Value::Table(given)) => {
                for key in given.keys() {
                    if !section.contains_key(key) {
                        return Err(unknown(key, section, known, &format!("{name}.")));
                    }
                }
            }
            (Some(Value::Table(_)), _) => {
                return Err(SettingsError::Invalid(format!("{name} is a section: write [{name}]")));
            }
            (Some(_), _) => {}
        }
    }
    Ok(())
}

fn unknown(key: &str, among: &Table, everywhere: &Table, prefix: &str) -> SettingsError {
    // The nearest of the same section, or of any section for a key that stands in a wrong one.
    let own = among.keys().map(|known| format!("{prefix}{known}"));
    let elsewhere = everywhere.iter().flat_map(|(section, value)| {
        let keys = value.as_table().map(|table| table.keys().cloned().collect::<Vec<_>>());
        keys.unwrap_or_default().into_iter().map(move |key| format!("{section}.{key}"))
    });
    let distance = |candidate: &String| {
        let bare = candidate.rsplit('.').next().unwrap_or(candidate);
        let foreign =
            !candidate.starts_with(prefix) || (prefix.is_empty() && candidate.contains('.'));
        strsim::osa_distance(bare, key) * 2 + usize::from(foreign)
    };
    let nearest = own.chain(elsewhere).min_by_key(distance).unwrap_or_default();
    SettingsError::UnknownKey(format!("unknown key {prefix}{key}: did you mean {nearest}?"))
}

fn overlay(
    table: &mut Table,
    known: &Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), SettingsError> {
    for (variable, text) in environment {
        let Some(wanted) = variable.strip_prefix("SEAM_").map(str::to_ascii_lowercase) else {
            continue;
        };
        for (name, default) in known {
            if let Value::Table(section) = default {
                let Some(key) = wanted.strip_prefix(&format!("{name}_")) else { continue };
                let Some(default) = section.get(key) else { continue };
                let value = parse_value(&variable, &text, default)?;
                let section = table.entry(name.clone()).or_insert(Value::Table(Table::new()));
                if let Value::Table(section) = section {
                    section.insert(key.to_owned(), value);
                }
            } else if wanted == *name {
                table.insert(name.clone(), parse_value(&variable, &text, default)?);
            }
        }
    }
    Ok(())
}

/// Reads a variable as the type that its key has; a list's items are separated by spaces or
/// commas.
fn parse_value(variable: &str, text: &str, default: &Value) -> Result<Value, SettingsError> {
    let trimmed = text.trim();
    let wrong = |what: &str| SettingsError::Invalid(format!("{variable}={text:?} is not {what}"));
    Ok(match default {
        Value::Integer(_) => Value::Integer(trimmed.parse().map_err(|_| wrong("a whole number"))?),
        Value::Float(_) => Value::Float(trimmed.parse().map_err(|_| wrong("a number"))?),
        Value::Boolean(_) => Value::Boolean(trimmed.parse().map_err(|_| wrong("true or false"))?),
        Value::Array(_) => Value::Array(
            text.split([' ', ',', '\n'])
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ => Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(default)]
    struct Settings {
        name: String,
        limits: Limits,
        cluster: Cluster,
    }

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(default)]
    struct Limits {
        connections: usize,
        ratio: f64,
    }

    #[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
    #[serde(default)]
    struct Cluster {
        seeds: Vec<String>,
        open: bool,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self { name: "a".into(), limits: Limits::default(), cluster: Cluster::default() }
        }
    }

    impl Default for Limits {
        fn default() -> Self {
            Self { connections: 5, ratio: 0.5 }
        }
    }

    fn read(text: &str) -> Result<Settings, SettingsError> {
        parse(text, [])
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        let error = read("[limits]\nconections = 1\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown key limits.conections: did you mean limits.connections?"
        );
        let error = read("[limits]\nseeds = []\n").unwrap_err();
        assert!(error.to_string().ends_with("did you mean cluster.seeds?"), "{error}");
        let error = read("limit = 1").unwrap_err();
        assert!(error.to_string().ends_with("did you mean limits?"), "{error}");
    }

    #[test]
    fn environment_wins_and_has_the_key_s_type() {
        let environment = [
            ("SEAM_LIMITS_CONNECTIONS".to_owned(), " 9".to_owned()),
            ("SEAM_CLUSTER_SEEDS".to_owned(), "a:1, b:2".to_owned()),
            ("SEAM_CLUSTER_OPEN".to_owned(), "true".to_owned()),
            ("PATH".to_owned(), "/".to_owned()),
        ];
        let settings: Settings = parse("[limits]\nconnections = 7\n", environment).unwrap();
        assert_eq!(settings.limits.connections, 9);
        assert_eq!(settings.cluster.seeds, ["a:1", "b:2"]);
        assert!(settings.cluster.open);
        let environment = [("SEAM_LIMITS_CONNECTIONS".to_owned(), "many".to_owned())];
        let error = parse::<Settings>("", environment).unwrap_err();
        assert!(error.to_string().contains("SEAM_LIMITS_CONNECTIONS"), "{error}");
    }

    #[test]
    fn wrong_types_and_text_that_is_no_toml_are_one_line() {
        for text in ["[limits]\nconnections = \"many\"\n", "limits = 1", "=", "[limits"] {
            let error = read(text).unwrap_err();
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
