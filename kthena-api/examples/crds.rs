//! Writes the CustomResourceDefinitions as YAML below a folder of charts, one file per kind, or with `--check` fails
//! if the files there are out of date. Without a folder it prints them, ready for `kubectl apply -f -`.

use std::{env, error::Error, fs, path::Path};

use kthena_api::crd::Kind;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let Some(charts) = arguments.next() else {
        for kind in Kind::ALL {
            println!("---\n{}", yaml(kind)?);
        }
        return Ok(());
    };
    let check = arguments.next().as_deref() == Some("--check");
    for kind in Kind::ALL {
        let chart = kind.group().split('.').next().unwrap_or_default();
        let folder = Path::new(&charts).join(chart).join("crds");
        let path = folder.join(format!("{}_{}.yaml", kind.group(), kind.plural()));
        let text = yaml(kind)?;
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        if check {
            return Err(format!("{} is out of date; run `cargo xtask codegen`", path.display()).into());
        }
        fs::create_dir_all(&folder)?;
        fs::write(&path, text)?;
    }
    Ok(())
}

fn yaml(kind: Kind) -> Result<String, Box<dyn Error>> {
    let body = serde_saphyr::to_string(kind.definition())?;
    Ok(format!(
        "# Generated from the types of kthena-api by `cargo xtask codegen`.\n{body}"
    ))
}
