//! Prints the definition of ChatServices, for `deploy/crd.yaml`.

use chat_operator::ChatService;
use kube::CustomResourceExt;

fn main() -> anyhow::Result<()> {
    print!("{}", serde_saphyr::to_string(&ChatService::crd())?);
    Ok(())
}
