//! Values that every program has, and what they have to be.

use std::net::SocketAddr;

use super::SettingsError;

/// That `key` has to be what is `wanted`.
#[must_use]
pub fn out_of_range(key: &str, wanted: &str) -> SettingsError {
    SettingsError::OutOfRange(format!("{key} is out of range: {wanted}"))
}

/// Whether `name` can be a member's, and a certificate's common name.
///
/// # Errors
/// [`SettingsError::OutOfRange`].
pub fn check_name(name: &str) -> Result<(), SettingsError> {
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if fits {
        return Ok(());
    }
    Err(out_of_range("name", "1 to 63 letters, digits, '-', '.' or '_'"))
}

/// Whether each `(key, value, least, most)` is within its bounds.
///
/// # Errors
/// [`SettingsError::OutOfRange`] for the first that is not.
pub fn check_bounds(bounds: &[(&str, u64, u64, u64)]) -> Result<(), SettingsError> {
    match bounds.iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
        Some((key, _, least, most)) => Err(out_of_range(key, &format!("{least} to {most}"))),
        None => Ok(()),
    }
}

/// Whether each `(key, value)` is an address that can be listened on.
///
/// # Errors
/// [`SettingsError::OutOfRange`] for the first that is not.
pub fn check_listeners<'a>(
    listeners: impl IntoIterator<Item = (&'a str, &'a String)>,
) -> Result<(), SettingsError> {
    let mut listeners = listeners.into_iter();
    match listeners.find(|(_, value)| value.parse::<SocketAddr>().is_err()) {
        Some((key, _)) => Err(out_of_range(key, "an IP address and a port, as \"0.0.0.0:3333\"")),
        None => Ok(()),
    }
}

/// `host:port` taken apart, where it is one.
#[must_use]
pub fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// As long as a DNS label.
const MAX_NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_hosts() {
        for good in ["a", "node-0", "Node_0.example", &"n".repeat(63)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "node 0", "n\u{f6}de", &"n".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_include_both_ends_and_name_the_key_that_is_outside() {
        assert_eq!(check_bounds(&[("a", 2, 2, 8), ("b", 8, 2, 8)]), Ok(()));
        for value in [1, 9] {
            let error = check_bounds(&[("a", 2, 2, 8), ("b", value, 2, 8)]).unwrap_err();
            assert_eq!(error.to_string(), "b is out of range: 2 to 8");
        }
    }

    #[test]
    fn listeners_are_addresses_not_names() {
        let check = |value: &str| check_listeners([("stratum.listen", &value.to_owned())]);
        assert_eq!(check("[::1]:3333"), Ok(()));
        for bad in ["", "localhost:3333", "127.0.0.1"] {
            assert!(check(bad).unwrap_err().to_string().contains("stratum.listen"), "{bad}");
        }
    }

    #[test]
    fn host_and_port_are_taken_apart_where_both_are_there() {
        assert_eq!(split_host_port("pool.example:3333"), Some(("pool.example", 3333)));
        assert_eq!(split_host_port("[::1]:3333"), Some(("[::1]", 3333)));
        for bad in ["pool", ":3333", "pool:", "pool:0", "pool:65536"] {
            assert_eq!(split_host_port(bad), None, "{bad}");
        }
    }
}
