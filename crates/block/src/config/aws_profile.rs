//! Credentials in the files of the AWS command line: `~/.aws/credentials` and `~/.aws/config`, or
//! those that the environment names, under a profile.

use std::path::{Path, PathBuf};

use configparser::ini::{Ini, IniDefault};

use super::Environment;
use crate::{Error, Kind, Result};

/// What a profile says that is of use here.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct AwsProfile {
    pub(super) keys: Option<AwsKeys>,
    /// A role that is assumed by a token in a file.
    pub(super) web_identity: Option<WebIdentity>,
    pub(super) region: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct AwsKeys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebIdentity {
    pub(super) role: String,
    pub(super) token_file: String,
}

impl AwsProfile {
    /// The profile that `AWS_PROFILE` names, or `default`; empty where no file has it and nobody
    /// named it.
    ///
    /// # Errors
    /// `Invalid` for a file that is no INI, a profile that was named and is not there, and one that
    /// gets its credentials in a way that is not supported.
    pub(super) fn read(environment: &Environment) -> Result<AwsProfile> {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let named = set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE"));
        let name = named.map_or("default", String::as_str);
        let file = |variable: &str, usual: &str| {
            let at_home = || set("HOME").map(|home| Path::new(home).join(".aws").join(usual));
            set(variable).map(PathBuf::from).or_else(at_home)
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = file("AWS_CONFIG_FILE", "config");
        let prefixed = format!("profile {name}");
        let sections = [
            Section::read(credentials.as_deref(), &[name])?,
            Section::read(config.as_deref(), &[&prefixed, name])?,
        ];
        let [Section(None), Section(None)] = &sections else { return profile(name, &sections) };
        match named {
            None => Ok(AwsProfile::default()),
            Some(name) => Err(invalid(format!(
                "AWS_PROFILE={name}: neither {} nor {} has such a profile",
                shown(credentials.as_deref()),
                shown(config.as_deref())
            ))),
        }
    }
}

fn profile(name: &str, sections: &[Section; 2]) -> Result<AwsProfile> {
    let value = |key: &str| sections.iter().find_map(|section| section.get(key));
    let keys = match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Some(AwsKeys { id, secret, token: value("aws_session_token") }),
        _ => None,
    };
    let web_identity = match (value("role_arn"), value("web_identity_token_file")) {
        (Some(role), Some(token_file)) => Some(WebIdentity { role, token_file }),
        _ => None,
    };
    let elsewhere = ["source_profile", "credential_source", "credential_process", "sso_session"]
        .into_iter()
        .chain(["sso_start_url"])
        .find(|key| value(key).is_some());
    if let (None, None, Some(key)) = (&keys, &web_identity, elsewhere) {
        return Err(invalid(format!(
            "the AWS profile {name:?} gets its credentials by {key}, which is not supported: give \
             keys, or a role with web_identity_token_file"
        )));
    }
    Ok(AwsProfile { keys, web_identity, region: value("region") })
}

/// The values of one profile in one file; `None` where the file or the profile is not there.
struct Section(Option<std::collections::HashMap<String, Option<String>>>);

impl Section {
    fn read(path: Option<&Path>, names: &[&str]) -> Result<Section> {
        let Some(path) = path else { return Ok(Section(None)) };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Section(None)),
            Err(e) => return Err(Error::local("reading AWS credentials from", path, e)),
        };
        let mut syntax = IniDefault::default();
        syntax.case_sensitive = true;
        syntax.delimiters = vec!['='];
        // a secret may hold what begins a comment elsewhere
        syntax.inline_comment_symbols = Some(Vec::new());
        let mut sections = Ini::new_from_defaults(syntax).read(text).map_err(|_| {
            // the reader's own words quote the line, which may be a secret
            invalid(format!("{} is not a file of AWS profiles", path.display()))
        })?;
        Ok(Section(names.iter().find_map(|name| sections.remove(*name))))
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.as_ref()?.get(key)?.clone().filter(|value| !value.is_empty())
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "a home folder".to_owned(), |path| path.display().to_string())
}

fn invalid(text: String) -> Error {
    Error::new(Kind::Invalid, format!("object store configuration: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home folder with the two files.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new(credentials: &str, config: &str) -> Home {
            let home = tempfile::tempdir().unwrap();
            std::fs::create_dir(home.path().join(".aws")).unwrap();
            std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
            std::fs::write(home.path().join(".aws/config"), config).unwrap();
            Home(home)
        }

        fn read(&self, more: &[(&str, &str)]) -> Result<AwsProfile> {
            let mut environment: Environment =
                more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            environment.insert("HOME".to_owned(), self.0.path().display().to_string());
            AwsProfile::read(&environment)
        }

        fn refused(&self, more: &[(&str, &str)]) -> String {
            self.read(more).map(|_| ()).unwrap_err().to_string()
        }
    }

    #[test]
    fn the_default_profile_and_a_named_one() {
        let home = Home::new(
            "[default]\naws_access_key_id = A\naws_secret_access_key = s;#=/+\n\n# more\n[ci]\n\
             aws_access_key_id=B\naws_secret_access_key=t\naws_session_token=u==\n",
            "[default]\nregion = eu-west-1\n[profile ci]\nregion=us-east-2\n",
        );
        let default = home.read(&[]).unwrap();
        let keys = default.keys.unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), keys.token), ("A", "s;#=/+", None));
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        let ci = home.read(&[("AWS_PROFILE", "ci")]).unwrap();
        let keys = ci.keys.unwrap();
        assert_eq!((keys.id.as_str(), keys.token.as_deref()), ("B", Some("u==")));
        assert_eq!(ci.region.as_deref(), Some("us-east-2"));
        assert!(home.refused(&[("AWS_PROFILE", "prod")]).contains("AWS_PROFILE=prod"));
    }

    #[test]
    fn files_that_the_environment_names() {
        let home = Home::new("", "");
        let other = Home::new("[x]\naws_access_key_id=A\naws_secret_access_key=b", "");
        let path = other.0.path().join(".aws/credentials").display().to_string();
        let named = [("AWS_SHARED_CREDENTIALS_FILE", path.as_str()), ("AWS_PROFILE", "x")];
        assert!(home.read(&named).unwrap().keys.is_some());
        assert!(home.read(&[]).unwrap() == AwsProfile::default());
        assert!(AwsProfile::read(&Environment::new()).unwrap() == AwsProfile::default());
    }

    #[test]
    fn a_role_by_token_is_read_and_other_ways_are_named() {
        let home = Home::new(
            "",
            "[profile a]\nrole_arn = r\nweb_identity_token_file = /t\n[profile b]\nrole_arn = r\n\
             source_profile = a\n",
        );
        let role = home.read(&[("AWS_PROFILE", "a")]).unwrap().web_identity.unwrap();
        assert_eq!((role.role.as_str(), role.token_file.as_str()), ("r", "/t"));
        assert!(home.refused(&[("AWS_PROFILE", "b")]).contains("source_profile"));
    }

    #[test]
    fn what_is_no_profile_file_is_named_without_its_contents() {
        let home = Home::new("[unclosed\nhush", "");
        let text = home.refused(&[]);
        assert!(text.contains("credentials") && !text.contains("hush"), "{text}");
    }
}
