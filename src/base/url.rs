//! Addresses with credentials in them, `https://user:password@host/…`: divided, so that these are in no message, key,
//! file or command line.

/// An address, and who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Without the credentials.
    pub plain: String,
    pub credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `https://host:port`.
    pub site: String,
    /// As they stand in the address.
    written: String,
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "***@{}", self.site)
    }
}

impl Address {
    /// A user alone is a secret where it can be a token: over HTTP. `git@host` is none.
    pub fn of(url: &str) -> Self {
        let none = || Self { plain: url.to_owned(), credentials: None };
        let Some((scheme, rest)) = url.split_once("://") else { return none() };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let Some((written, host)) = authority.rsplit_once('@') else { return none() };
        let (user, password) = written.split_once(':').unwrap_or((written, ""));
        let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        if !is_http && password.is_empty() {
            return none();
        }
        let who = if is_http { String::new() } else { format!("{user}@") };
        let credentials = Credentials {
            site: format!("{scheme}://{host}"),
            written: written.to_owned(),
            user: decoded(user),
            password: decoded(password),
        };
        Self { plain: format!("{scheme}://{who}{host}{path}"), credentials: Some(credentials) }
    }
}

impl Credentials {
    /// All that must not be seen: user and password as they stand there, and each as it is meant.
    pub fn secrets(&self) -> Vec<Vec<u8>> {
        let all = [&self.written, &self.password, &self.user];
        // Who has a password, is no secret.
        let all = all.into_iter().take(if self.password.is_empty() { 3 } else { 2 });
        all.filter(|text| !text.is_empty()).map(|text| text.as_bytes().to_vec()).collect()
    }
}

/// With `%41` as `A`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                &after[2..]
            }
            _ => {
                bytes.push(byte);
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_an_address() {
        let of = |url: &str| {
            let Address { plain, credentials } = Address::of(url);
            (plain, credentials.map(|c| format!("{} {} {}", c.site, c.user, c.password)).unwrap_or_default())
        };
        let both = |plain: &str, who: &str| (plain.to_owned(), who.to_owned());
        assert_eq!(of("https://u:p%40s@h:1/a?b#c"), both("https://h:1/a?b#c", "https://h:1 u p@s"));
        assert_eq!(of("https://token@h"), both("https://h", "https://h token "));
        assert_eq!(of("http://u:a@b@h/x@y"), both("http://h/x@y", "http://h u a@b"));
        assert_eq!(of("ssh://git:pw@h/x"), both("ssh://git@h/x", "ssh://h git pw"));
        for url in ["https://h/a@b", "ssh://git@h/x", "git@h:x", "/a/b", "", "https://h?u:p@x"] {
            assert_eq!(of(url), both(url, ""), "{url}");
        }
        assert_eq!(format!("{:?}", Address::of("https://u:pass@h").credentials), "Some(***@https://h)");
    }
}
