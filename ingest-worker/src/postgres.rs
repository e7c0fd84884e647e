//! Connections to PostgreSQL, with TLS where the server is not on this machine's socket.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

/// Name of the variable with the connection string; it may hold the password, so it is never printed.
pub const URL_VARIABLE: &str = "KRONOS_DATABASE_URL";

/// How to reach the database.
#[derive(Clone)]
pub struct Database {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Database {
    /// Takes the connection string of the environment, else `url` of the configuration, and `PGPASSWORD`.
    ///
    /// # Errors
    /// [`Error::MissingVariable`] without either, [`Error::Connect`] for a string that is none or unreadable roots.
    pub fn new(url: Option<&str>, root_certificate: Option<&PathBuf>) -> Result<Self> {
        let from_environment = std::env::var(URL_VARIABLE).ok();
        let url = from_environment
            .as_deref()
            .or(url)
            .ok_or(Error::MissingVariable { name: URL_VARIABLE, purpose: "the database" })?;
        Self::at(url, root_certificate)
    }

    /// Takes the connection string `url`, whatever database the environment names, and `PGPASSWORD`.
    ///
    /// # Errors
    /// [`Error::Connect`] for a string that is none or unreadable roots.
    pub fn at(url: &str, root_certificate: Option<&PathBuf>) -> Result<Self> {
        // The parser's message can quote the string, and with it the password.
        let mut config: Config = url
            .parse()
            .map_err(|_| Error::Connect(format!("{URL_VARIABLE} or database.url is no connection string")))?;
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        config.application_name("kronos-ingest");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        config.keepalives_idle(Duration::from_secs(30));
        config.tcp_user_timeout(Duration::from_secs(30));
        Ok(Database { config, tls: MakeRustlsConnect::new(tls_config(root_certificate)?) })
    }

    /// Opens a connection; its driver runs as a task until the client is dropped or the server goes away.
    ///
    /// # Errors
    /// [`Error::Connect`] with the server's or the system's reason.
    pub async fn connect(&self) -> Result<Client> {
        let (client, connection) = self
            .config
            .connect(self.tls.clone())
            .await
            .map_err(|e| Error::Connect(crate::error::database_message(&e)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "database connection ended");
            }
        });
        client.batch_execute("set timezone = 'UTC'; set client_min_messages = warning").await?;
        Ok(client)
    }

    /// Where the database is, without credentials.
    pub fn place(&self) -> String {
        let hosts: Vec<_> = self.config.get_hosts().iter().map(|host| format!("{host:?}")).collect();
        format!("{} on {}", self.config.get_dbname().unwrap_or("(default database)"), hosts.join(", "))
    }
}

/// The server's certificate is always verified: `sslmode=require` without verification would protect from nobody.
fn tls_config(root_certificate: Option<&PathBuf>) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    match root_certificate {
        Some(path) => {
            let unreadable = |e: &dyn std::fmt::Display| {
                Error::Connect(format!("root certificate \"{}\": {e}", path.display()))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))? {
                roots.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Connect(format!("TLS: {e}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
