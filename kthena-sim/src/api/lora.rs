//! Loading and unloading LoRA adapters.

use super::ApiError;
use super::fields::Fields;
use crate::engine::Engine;
use crate::http::respond::Reply;

/// `POST /v1/load_lora_adapter`.
pub(crate) fn load(engine: &Engine, fields: Fields<'_>) -> Result<Reply, ApiError> {
    fields.required("lora_name")?;
    fields.required("lora_path")?;
    let (name, path) = (
        fields.text("lora_name")?.unwrap_or_default(),
        fields.text("lora_path")?.unwrap_or_default(),
    );
    let in_place = fields.flag("load_inplace")?;
    let mut models = engine.models.lock();
    if in_place {
        models.unload(name);
    }
    if !models.load(name, path) {
        let message = format!(
            "The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set \
             'load_inplace' to True."
        );
        return Err(ApiError::new(400, "InvalidUserInput", message));
    }
    Ok(done(format!(
        "Success: LoRA adapter '{name}' added successfully."
    )))
}

/// `POST /v1/unload_lora_adapter`.
pub(crate) fn unload(engine: &Engine, fields: Fields<'_>) -> Result<Reply, ApiError> {
    fields.required("lora_name")?;
    let name = fields.text("lora_name")?.unwrap_or_default();
    if !engine.models.lock().unload(name) {
        let message = format!("The lora adapter '{name}' cannot be found.");
        return Err(ApiError::new(404, "NotFoundError", message));
    }
    Ok(done(format!(
        "Success: LoRA adapter '{name}' removed successfully."
    )))
}

fn done(text: String) -> Reply {
    Reply {
        status: 200,
        content_type: None,
        headers: Vec::new(),
        body: text.into_bytes(),
    }
}
