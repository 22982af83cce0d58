//! Texts that must never be shown: tokens, passwords, signed links.
//!
//! Redaction is a matter of types here: neither `Debug` nor `Display` of these reveals anything, and
//! nothing serialises them. Whoever needs the text calls `reveal` where it leaves the process.

use std::fmt;

use url::Url;

/// A token, password, session or refresh token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<Box<str>>) -> Secret {
        Secret(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A link whose path or query is a credential in itself. Shows only its origin.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedUrl(Url);

impl SignedUrl {
    pub fn new(url: Url) -> SignedUrl {
        SignedUrl(url)
    }

    pub fn reveal(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.0.origin().ascii_serialization())
    }
}

impl fmt::Display for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Longest text of a service that is repeated in a message, in characters.
const WORDS_MAX: usize = 300;

/// A service's own words, fit to be shown: short, on one line, without the given secrets.
pub fn quote(words: &str, secrets: &[&Secret]) -> String {
    let mut text = words.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret.reveal(), "[secret]");
    }
    let mut shown = String::new();
    for c in text.trim().chars().take(WORDS_MAX) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if text.trim().chars().count() > WORDS_MAX {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    // SE-06
    #[test]
    fn neither_debug_nor_display_shows_a_secret() {
        let token = Secret::new("tok-123456");
        let link = SignedUrl::new(Url::parse("https://dl.example/abc/f?sig=s3cr3t").unwrap());
        let shown = format!("{token:?} {token} {link:?} {link}");
        assert!(!shown.contains("123456") && !shown.contains("s3cr3t") && !shown.contains("abc"));
        assert!(shown.contains("https://dl.example"));
    }

    // AU-22, SE-06
    #[test]
    fn words_of_a_service_are_cut_escaped_and_free_of_our_token() {
        let token = Secret::new("tok-123456");
        let words = format!("bad tok-123456\n\u{1b}[31m{}", "长".repeat(10_000));
        let shown = quote(&words, &[&token]);
        assert!(shown.starts_with("bad [secret]\\n\\u{1b}[31m长"));
        assert!(shown.ends_with('…') && shown.chars().count() < 330);
    }
}
