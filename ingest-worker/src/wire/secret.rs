//! Credentials, and how they are kept out of what is printed and stored.

use std::fmt;

use super::{Answer, Request, Transport};
use crate::error::FeedError;

/// A value that is never printed.
#[derive(Clone, PartialEq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Bytes below which a header is no credential, and would spoil every text.
const SHORTEST: usize = 4;
/// The same in data, where a short one may be a word (`demo`).
const SHORTEST_IN_DATA: usize = 12;

impl Request {
    /// `text` without the credentials of this request: vendors quote what they refuse.
    pub fn conceal(&self, text: &str) -> String {
        self.without(SHORTEST, text)
    }

    fn without(&self, shortest: usize, text: &str) -> String {
        let secrets = self.headers.iter().chain(&self.secret_query).map(|(_, secret)| secret.0.as_str());
        // Of "Bearer KEY" the key alone, too.
        secrets
            .flat_map(|secret| [secret, secret.rsplit(' ').next().unwrap_or(secret)])
            .filter(|secret| secret.len() >= shortest)
            .flat_map(spellings)
            .fold(text.to_owned(), |text, secret| text.replace(&secret, "(secret)"))
    }
}

/// How a text is written where it is quoted: as it is, in JSON, in an address, in a form.
fn spellings(secret: &str) -> [String; 4] {
    let encoded = |plain: &[u8], blank: &str| {
        let spell = |byte: u8| match byte {
            b' ' => blank.to_owned(),
            _ if byte.is_ascii_alphanumeric() || plain.contains(&byte) => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        secret.bytes().map(spell).collect::<String>()
    };
    let json = serde_json::Value::from(secret).to_string();
    [secret.to_owned(), json.trim_matches('"').to_owned(), encoded(b"-._~", "%20"), encoded(b"*-._", "+")]
}

/// The answer to a request without the request's credentials, which vendors quote in refusals and in addresses of further pages.
///
/// # Errors
/// As [`Transport::ask`].
pub async fn ask(transport: &dyn Transport, request: &Request) -> Result<Answer, FeedError> {
    let answer = transport.ask(request.clone()).await?;
    let shortest = if answer.is_data() { SHORTEST_IN_DATA } else { SHORTEST };
    let body = request.without(shortest, &String::from_utf8_lossy(&answer.body)).into_bytes();
    Ok(Answer { body, ..answer })
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::BoxFuture};

    use super::*;
    use crate::wire::{Connection, Method};

    fn request(secret: &str) -> Request {
        let secret = || Secret(secret.to_owned());
        Request {
            secret_query: vec![("apikey", secret())],
            headers: vec![("Authorization", secret())],
            ..Request::json(Method::POST, "https://vendor/orders", r#"{"password":"hunter2"}"#)
        }
    }

    #[test]
    fn credentials_of_a_request_are_never_printed() {
        let printed = format!("{:?}", request("hunter2"));
        assert!(!printed.contains("hunter2") && printed.contains("https://vendor/orders"), "{printed}");
        assert_eq!(request("hunter2").conceal("no such key: hunter2"), "no such key: (secret)");
        assert_eq!(request("Bearer hunter2").conceal("Bearer hunter2, hunter2"), "(secret), (secret)");
        assert_eq!(request("abc").conceal("abc"), "abc", "a word, not a key");
    }

    #[test]
    fn a_key_is_found_however_it_is_quoted() {
        let told = r#"a"b+c d/e, a\"b+c d/e, a%22b%2Bc%20d%2Fe, a%22b%2Bc+d%2Fe"#;
        assert_eq!(request(r#"a"b+c d/e"#).conceal(told), "(secret), (secret), (secret), (secret)");
    }

    struct Echo(u16, &'static str);

    impl Transport for Echo {
        fn open(&self, _: String) -> BoxFuture<'static, Result<Box<dyn Connection>, FeedError>> {
            async { Err(FeedError::Fatal("no stream".to_owned())) }.boxed()
        }

        fn ask(&self, _: Request) -> BoxFuture<'static, Result<Answer, FeedError>> {
            let answer = Answer { status: self.0, body: self.1.into(), ..Answer::default() };
            async { Ok(answer) }.boxed()
        }
    }

    #[test]
    fn answers_come_without_the_key_and_data_keeps_its_words() {
        for (status, secret, body, expected) in [
            (401, "demo", "no: demo", "no: (secret)"),
            (200, "demo", r#"["demo"]"#, r#"["demo"]"#),
            (200, "demo", "<p>demo", "<p>(secret)"),
            (200, "key-of-account", r#"["?key=key-of-account"]"#, r#"["?key=(secret)"]"#),
        ] {
            let asking = async { ask(&Echo(status, body), &request(secret)).await };
            let answer = asking.now_or_never().unwrap().unwrap();
            assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
        }
    }
}
