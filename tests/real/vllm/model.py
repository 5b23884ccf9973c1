"""Writes a very small language model: `model.py CORPUS MODEL_FOLDER ADAPTER_FOLDER`.

A Llama of two layers with random weights, a tokenizer made of the words of CORPUS, and a LoRA adapter for it. What it says
means nothing; that it says the same again when it is asked the same is all that these tests want.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT_END, TURN, TURN_END = "<|end|>", "<|turn|>", "<|turn_end|>"
CHAT = (
    "{%- for message in messages -%}"
    "<|turn|>{{ message.role }}: {{ message.content }}<|turn_end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|turn|>assistant: {% endif -%}"
)
CONTEXT = 4096
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD = 2, 128, 4, 2, 32
# Wide enough that answers differ from prompt to prompt.
SPREAD = 0.3
RANK = 8


def write_tokenizer(corpus, folder):
    bytes_in_pairs = Tokenizer(models.BPE())
    bytes_in_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_in_pairs.decoder = decoders.ByteLevel()
    # The alphabet makes every text a sequence of tokens, whatever the corpus has in it.
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=[TEXT_END, TURN, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytes_in_pairs.train([str(corpus)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_in_pairs,
        bos_token=TEXT_END,
        eos_token=TURN_END,
        pad_token=TEXT_END,
        additional_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_model(tokenizer, folder):
    torch.manual_seed(20)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=2 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            head_dim=HEAD,
            max_position_embeddings=CONTEXT,
            initializer_range=SPREAD,
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained(folder)


def write_adapter(folder):
    torch.manual_seed(21)
    weights = {}
    for layer in range(LAYERS):
        for projection, width in ("q_proj", HEADS * HEAD), ("v_proj", KV_HEADS * HEAD):
            place = f"base_model.model.model.layers.{layer}.self_attn.{projection}"
            weights[f"{place}.lora_A.weight"] = torch.randn(RANK, HIDDEN) * SPREAD
            weights[f"{place}.lora_B.weight"] = torch.randn(width, RANK) * SPREAD
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    settings = {
        "base_model_name_or_path": "tiny",
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "target_modules": ["q_proj", "v_proj"],
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "modules_to_save": None,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2))


def main():
    corpus, model, adapter = map(pathlib.Path, sys.argv[1:])
    write_model(write_tokenizer(corpus, model), model)
    write_adapter(adapter)


if __name__ == "__main__":
    main()
