//! Reads objects as YAML from standard input and does to them what a cluster would: prints each with its defaults as
//! JSON, one per line, or says what is wrong with it.
//!
//! ```sh
//! cargo run --package kthena-api --features yaml --example admit < route.yaml
//! ```

use std::{error::Error, io::Read as _, process::ExitCode};

use kthena_api::{
    AutoscalingPolicy, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer, ModelServing,
    admission::{Object, admit},
    crd::Kind,
    field::{FieldError, admission_message},
};
use serde_json::Value;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut code = ExitCode::SUCCESS;
    for object in kthena_api::yaml::read(&text)? {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match Kind::of(&object).map(|kind| as_json(kind, object)) {
            Some(Ok(object)) => println!("{object}"),
            Some(Err(errors)) => {
                println!("{name}: {}", admission_message(&errors));
                code = ExitCode::FAILURE;
            }
            None => println!("{name}: not an object of Kthena"),
        }
    }
    Ok(code)
}

fn as_json(kind: Kind, object: Value) -> Result<Value, Vec<FieldError>> {
    fn admitted<K: Object>(object: Value) -> Result<Value, Vec<FieldError>> {
        Ok(serde_json::to_value(admit::<K>(object, None)?).unwrap_or_default())
    }
    match kind {
        Kind::ModelServing => admitted::<ModelServing>(object),
        Kind::ModelBooster => admitted::<ModelBooster>(object),
        Kind::AutoscalingPolicy => admitted::<AutoscalingPolicy>(object),
        Kind::ModelRoute => admitted::<ModelRoute>(object),
        Kind::ModelServer => admitted::<ModelServer>(object),
        Kind::ExternalModelProvider => admitted::<ExternalModelProvider>(object),
    }
}
