//! `--module REF [--config JSON|@FILE]`, repeated: a pipeline in the order of the command line.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};
use millstream_client::{Binding, Client, SubscribeOptions};
use serde::de::IgnoredAny;

use crate::failure::Failure;

/// The modules of the command line, each with the `--config` that follows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pipeline {
    modules: Vec<Named>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    reference: String,
    config: Option<String>,
}

/// A module to be bound.
#[derive(Debug)]
enum Found {
    Registered { reference: String, config: String },
    File { wasm: Bytes, config: String },
}

impl Pipeline {
    /// Whether no module was named.
    pub(crate) fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Adds the modules to a subscription; files are uploaded with it, for it alone.
    pub(crate) fn apply(&self, mut options: SubscribeOptions) -> Result<SubscribeOptions, Failure> {
        for found in self.find()? {
            options = match found {
                Found::Registered { reference, config } => options.with_module(reference, config),
                Found::File { wasm, config } => options.with_private_module(wasm, config),
            };
        }
        Ok(options)
    }

    /// Uploads the modules that are files, and gives the bindings.
    pub(crate) async fn upload(&self, client: &Client) -> Result<Vec<Binding>, Failure> {
        let mut bindings = Vec::new();
        for found in self.find()? {
            bindings.push(match found {
                Found::Registered { reference, config } => Binding { module: reference, config },
                Found::File { wasm, config } => {
                    let sha256 = client.put_private_module(wasm).await?.sha256;
                    Binding { module: format!("sha256:{sha256}"), config }
                }
            });
        }
        Ok(bindings)
    }

    /// The modules with their components, those of the registry fetched, and their configurations.
    pub(crate) async fn fetch(&self, client: &Client) -> Result<Vec<(String, Bytes, String)>, Failure> {
        let mut fetched = Vec::new();
        for Named { reference, config: given } in &self.modules {
            let config = config(given.as_deref())?;
            fetched.push((reference.clone(), fetch(client, reference).await?, config));
        }
        Ok(fetched)
    }

    fn find(&self) -> Result<Vec<Found>, Failure> {
        self.modules.iter().map(Named::find).collect()
    }
}

impl Named {
    fn find(&self) -> Result<Found, Failure> {
        let config = config(self.config.as_deref())?;
        Ok(match file(&self.reference)? {
            Some(wasm) => Found::File { wasm, config },
            None => Found::Registered { reference: self.reference.clone(), config },
        })
    }
}

/// The component that `reference` means, a file or one of the registry.
pub(crate) async fn fetch(client: &Client, reference: &str) -> Result<Bytes, Failure> {
    match file(reference)? {
        Some(wasm) => Ok(wasm),
        None => Ok(client.get_module(reference).await?.1),
    }
}

/// What the file `reference` holds; `None` where that is the name of no file.
fn file(reference: &str) -> Result<Option<Bytes>, Failure> {
    let path = Path::new(reference);
    if path.is_file() {
        let wasm = std::fs::read(path).map_err(|error| Failure::file("read the module", path, &error))?;
        return Ok(Some(wasm.into()));
    }
    if path.extension().is_some_and(|extension| extension == "wasm") {
        return Err(Failure::new(format!("there is no module file {}", path.display())));
    }
    Ok(None)
}

/// A configuration: JSON, or `@FILE` with JSON; `{}` for none.
pub(crate) fn config(text: Option<&str>) -> Result<String, Failure> {
    let Some(text) = text else { return Ok("{}".to_owned()) };
    let (text, origin) = match text.strip_prefix('@') {
        Some(path) => {
            let path = PathBuf::from(path);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::file("read the configuration", &path, &error))?;
            (text, path.display().to_string())
        }
        None => (text.to_owned(), text.chars().take(200).collect()),
    };
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format!(
            "the configuration {origin} is not JSON: {error}; write --config '{{\"name\": \"value\"}}' or --config @FILE"
        ))),
    }
}

impl FromArgMatches for Pipeline {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |id: &str| -> Vec<(usize, String)> {
            let values = matches.get_many::<String>(id).unwrap_or_default();
            matches.indices_of(id).unwrap_or_default().zip(values.cloned()).collect()
        };
        let mut modules: Vec<_> = given("module")
            .into_iter()
            .map(|(at, reference)| (at, Named { reference, config: None }))
            .collect();
        for (at, config) in given("config") {
            let before = modules.iter_mut().rev().find(|(module_at, _)| *module_at < at);
            let fault = match before {
                Some((_, Named { config: place @ None, .. })) => {
                    *place = Some(config);
                    continue;
                }
                Some((_, Named { reference, .. })) => format!("--module {reference} has two --config"),
                None => format!("--config {config} has no --module before it"),
            };
            return Err(clap::Error::raw(ErrorKind::ValueValidation, fault));
        }
        Ok(Self { modules: modules.into_iter().map(|(_, module)| module).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Pipeline {
    fn augment_args(command: Command) -> Command {
        command
            .arg(Arg::new("module").long("module").value_name("REF").action(ArgAction::Append).help(
                "Module that judges the records: std/NAME, NAME@VERSION, NAME (newest) or a .wasm file, \
                           which is bound to this subscription alone. Repeat it for a pipeline",
            ))
            .arg(
                Arg::new("config")
                    .long("config")
                    .value_name("JSON|@FILE")
                    .action(ArgAction::Append)
                    .help("Configuration of the --module before it"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Vec<(String, Option<String>)>, String> {
        let command = Pipeline::augment_args(Command::new("x").no_binary_name(true));
        let matches = command.try_get_matches_from(args).unwrap();
        let pipeline = Pipeline::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        Ok(pipeline.modules.into_iter().map(|module| (module.reference, module.config)).collect())
    }

    #[test]
    fn a_config_belongs_to_the_module_before_it() {
        let line = ["--module", "a", "--module", "b", "--config", "{}", "--module", "c", "--config", "1"];
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            parse(&line).unwrap(),
            [("a".to_owned(), None), ("b".to_owned(), some("{}")), ("c".to_owned(), some("1"))]
        );
        assert!(parse(&["--config", "{}", "--module", "a"]).unwrap_err().contains("no --module before"));
        let twice = ["--module", "a", "--config", "1", "--config", "2"];
        assert!(parse(&twice).unwrap_err().contains("two --config"));
    }

    #[test]
    fn configs_are_json() {
        let text = |given| config(given).map_err(|failure| format!("{failure:?}"));
        assert_eq!(text(None).unwrap(), "{}");
        assert_eq!(text(Some(r#"{"a": 1.0000000000000000001}"#)).unwrap(), r#"{"a": 1.0000000000000000001}"#);
        assert!(text(Some("{a}")).unwrap_err().contains("{a}"));
        assert!(text(Some("@/no/such.json")).unwrap_err().contains("/no/such.json"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1]").unwrap();
        assert_eq!(text(Some(&format!("@{}", file.path().display()))).unwrap(), "[1]");
    }
}
