import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A file, as `GET /files/:id` and `GET /files/:id/content` answer it. */
export interface OpenaiServerFile {
  filename: string;
  content: string;
}

export interface OpenaiServerRequest {
  method: string;
  /** The path with its query. */
  path: string;
  authorization: string | null;
  body: unknown;
}

/** An answer instead of the usual one. `cut`: the connection closes, after half of the bytes where there is a content. */
export type OpenaiServerFault =
  | 'cut'
  | { status: number; code?: string; message?: string; headers?: Record<string, string> };

/**
 * A server that speaks OpenAI's wire over HTTP, by its published description: fine-tuning jobs in pages, files and their content, chat
 * completions, and errors as `{"error": {"message", "type", "param", "code"}}`.
 */
export interface OpenaiServer {
  /** The address, with `/v1`. */
  baseUrl: string;
  /** Keys that it takes. Like some services, it repeats a wrong one in the message. */
  keys: Set<string>;
  /** Newest first, with every field of a job. */
  jobs: Record<string, unknown>[];
  files: Map<string, OpenaiServerFile>;
  /** Models that answer a chat: the message for the request. */
  models: Map<string, (request: Record<string, unknown>) => object>;
  requests: OpenaiServerRequest[];
  /** Called with each request before it is answered. */
  onRequest: (request: OpenaiServerRequest, number: number) => OpenaiServerFault | null;
  close(): Promise<void>;
}

export async function startOpenaiServer(): Promise<OpenaiServer> {
  const server: Server = createServer((request, response) => {
    void answer(openai, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const openai: OpenaiServer = {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    keys: new Set(['sk-test-key']),
    jobs: [],
    files: new Map(),
    models: new Map(),
    requests: [],
    onRequest: () => null,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return openai;
}

async function answer(openai: OpenaiServer, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  const { method = '', url = '', headers } = incoming;
  const request: OpenaiServerRequest = {
    method,
    path: url,
    authorization: headers.authorization ?? null,
    body: text === '' ? null : (JSON.parse(text) as unknown),
  };
  openai.requests.push(request);
  const fault = openai.onRequest(request, openai.requests.length);
  if (fault === 'cut') {
    cut(openai, request, response);
    return;
  }
  if (fault !== null) {
    const { status, code = null, message = 'It fails.', headers: more = {} } = fault;
    response.writeHead(status, { 'content-type': 'application/json', ...more });
    response.end(JSON.stringify({ error: { message, type: 'server_error', param: null, code } }));
    return;
  }
  const key = request.authorization?.replace(/^Bearer /, '') ?? '';
  if (!openai.keys.has(key)) {
    const message = `Incorrect API key provided: ${key}. You can find your API key at https://platform.openai.com/account/api-keys.`;
    send(response, 401, errorOf(message, 'invalid_api_key'));
    return;
  }
  const { status, body: answered } = answerOf(openai, request);
  if (typeof answered !== 'string') send(response, status, answered);
  else response.writeHead(status, { 'content-type': 'application/octet-stream' }).end(answered);
}

const WIRE = /^\/v1\/(fine_tuning\/jobs|files|chat\/completions)(?:\/([^/]+))?(?:\/(content))?$/;

/** @returns the content of a file as text */
function answerOf(openai: OpenaiServer, request: OpenaiServerRequest): { status: number; body: object | string } {
  const { pathname, searchParams } = new URL(request.path, openai.baseUrl);
  const [, what, id, part] = WIRE.exec(pathname) ?? [];
  const found = (body: object | string) => ({ status: 200, body });
  const failed = (status: number, body: object) => ({ status, body });
  if (request.method === 'GET' && what === 'fine_tuning/jobs' && id === undefined) {
    const limit = Number(searchParams.get('limit') ?? 20);
    if (limit > 100) return failed(400, errorOf('limit is at most 100.', null, 'limit'));
    const after = searchParams.get('after');
    const start = after === null ? 0 : openai.jobs.findIndex((job) => job.id === after) + 1;
    const data = openai.jobs.slice(start, start + limit);
    return found({ object: 'list', data, has_more: start + limit < openai.jobs.length });
  }
  if (request.method === 'GET' && what === 'fine_tuning/jobs') {
    const job = openai.jobs.find((one) => one.id === id);
    if (job !== undefined) return found(job);
    return failed(404, errorOf(`Could not find fine tune: ${id}`, 'fine_tune_not_found', 'fine_tune_id'));
  }
  if (request.method === 'GET' && what === 'files') {
    const file = openai.files.get(id ?? '');
    if (file === undefined) return failed(404, errorOf(`No such File object: ${id}`, null, 'id'));
    return found(part === 'content' ? file.content : fileObject(id!, file));
  }
  if (request.method === 'POST' && what === 'chat/completions') {
    const chat = request.body as { model: string; messages: unknown[] };
    const model = openai.models.get(chat.model);
    if (model === undefined) {
      const message = `The model \`${chat.model}\` does not exist or you do not have access to it.`;
      return failed(404, errorOf(message, 'model_not_found'));
    }
    const choice = { index: 0, message: { role: 'assistant', ...model(chat) }, logprobs: null, finish_reason: 'stop' };
    return found({ id: 'chatcmpl-1', object: 'chat.completion', model: chat.model, choices: [choice] });
  }
  return failed(404, errorOf(`Invalid URL (${request.method} ${pathname})`, null));
}

/** Closes the connection, within a content where that was asked for. */
function cut(openai: OpenaiServer, { path }: OpenaiServerRequest, response: ServerResponse): void {
  const [, id] = /^\/v1\/files\/([^/]+)\/content$/.exec(path) ?? [];
  const content = openai.files.get(id ?? '')?.content;
  if (content === undefined) {
    response.destroy();
    return;
  }
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': Buffer.byteLength(content) });
  response.write(content.slice(0, content.length / 2), () => response.destroy());
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function errorOf(message: string, code: string | null, param: string | null = null): object {
  return { error: { message, type: 'invalid_request_error', param, code } };
}

function fileObject(id: string, { filename, content }: OpenaiServerFile): object {
  return {
    id,
    object: 'file',
    bytes: Buffer.byteLength(content),
    created_at: 1_730_000_000,
    expires_at: null,
    filename,
    purpose: 'fine-tune',
    status: 'processed',
    status_details: null,
  };
}

/** A job with every field that OpenAI's API describes. */
export function openaiJob(id: string, fields: Record<string, unknown> = {}): Record<string, unknown> {
  const hyperparameters = { n_epochs: 3, batch_size: 1, learning_rate_multiplier: 1.8 };
  return {
    object: 'fine_tuning.job',
    id,
    model: 'gpt-4o-mini-2024-07-18',
    created_at: 1_730_000_100,
    finished_at: 1_730_000_900,
    fine_tuned_model: `ft:gpt-4o-mini-2024-07-18:acme:support:${id.slice(-4)}`,
    organization_id: 'org-123',
    result_files: ['file-result'],
    status: 'succeeded',
    validation_file: null,
    training_file: 'file-train',
    hyperparameters,
    trained_tokens: 5_768,
    integrations: [],
    seed: 683058546,
    estimated_finish: null,
    method: { type: 'supervised', supervised: { hyperparameters } },
    metadata: null,
    user_provided_suffix: 'support',
    error: { code: null, message: null, param: null },
    ...fields,
  };
}

/** Rows of conversations, as JSONL. */
export function chatRows(count: number, label = 'row'): string {
  return linesOf(count, (i) => ({
    messages: [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: `${label} ${i}` },
      { role: 'assistant', content: `answer ${i}` },
    ],
  }));
}

/** Pairs of answers, as JSONL. */
export function preferenceRows(count: number, label = 'pair'): string {
  return linesOf(count, (i) => ({
    input: { messages: [{ role: 'user', content: `${label} ${i}` }] },
    preferred_output: [{ role: 'assistant', content: `good ${i}` }],
    non_preferred_output: [{ role: 'assistant', content: `bad ${i}` }],
  }));
}

/** Prompts with what a grader compares answers with, as JSONL of OpenAI's reinforcement fine-tuning. */
export function gradedRowsThere(count: number): string {
  return linesOf(count, (i) => ({
    messages: [{ role: 'user', content: `How much is ${i} + 1?` }],
    reference_answer: String(i + 1),
    weight_of_row: 0.5,
  }));
}

function linesOf(count: number, rowOf: (index: number) => object): string {
  return Array.from({ length: count }, (_, i) => `${JSON.stringify(rowOf(i))}\n`).join('');
}
