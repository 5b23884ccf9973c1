//! A simulator of vLLM and SGLang engines: HTTP, SSE, prefill/decode hand-over, metrics, faults.
