//! The lab's own certificate authority: who each part is to the others. Made anew at every start.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// A certificate authority and the folder its certificates go to.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity<'a> {
    /// Base name of the two files.
    pub(super) file: &'a str,
    /// Kubernetes user name (common name).
    pub(super) user: &'a str,
    /// Kubernetes group (organisation).
    pub(super) group: Option<&'a str>,
    /// Names and addresses it serves at; empty for a client.
    pub(super) serves: Vec<String>,
}

impl Authority {
    /// Makes a new authority; `ca.crt` and its siblings go to `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let mut params = valid_now(CertificateParams::default());
        params.distinguished_name = name("railhead-lab", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self {
            issuer,
            folder: folder.to_path_buf(),
        };
        Ok(authority)
    }

    /// Issues `<file>.crt` and `<file>.key` into the authority's own folder.
    pub(super) fn issue(&self, identity: &Identity<'_>) -> Result<()> {
        self.issue_to(&self.folder, identity)
    }

    /// Issues `<file>.crt` and `<file>.key`, with `ca.crt` beside them, into a folder that its holder will see.
    pub(super) fn issue_to(&self, folder: &Path, identity: &Identity<'_>) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = valid_now(CertificateParams::new(identity.serves.clone())?);
        params.distinguished_name = name(identity.user, identity.group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !identity.serves.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        write(folder, "ca.crt", &self.issuer.pem())?;
        write(folder, &format!("{}.crt", identity.file), &certificate.pem())?;
        write(folder, &format!("{}.key", identity.file), &key.serialize_pem())
    }

    /// The key pair that signs and checks service account tokens.
    pub(super) fn service_account_keys(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        write(&self.folder, "service-account.key", &key.serialize_pem())?;
        write(&self.folder, "service-account.pub", &key.public_key_pem())
    }
}

fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    let path = folder.join(file);
    let open = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    open.and_then(|mut f| f.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn name(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}

fn valid_now(mut params: CertificateParams) -> CertificateParams {
    // A guest's clock may be a little behind ours.
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(30);
    params
}

/// A kubeconfig whose credentials are files beside it.
pub(super) fn kubeconfig(server: &str, pki: &Path, identity: &str) -> String {
    let pki = pki.display();
    format!(
        "apiVersion: v1\nkind: Config\n\
         clusters: [{{name: lab, cluster: {{server: \"{server}\", certificate-authority: \"{pki}/ca.crt\"}}}}]\n\
         users: [{{name: {identity}, user: {{client-certificate: \"{pki}/{identity}.crt\", client-key: \"{pki}/{identity}.key\"}}}}]\n\
         contexts: [{{name: lab, context: {{cluster: lab, user: {identity}}}}}]\ncurrent-context: lab\n"
    )
}
