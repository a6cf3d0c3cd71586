import { setTimeout as sleep } from 'node:timers/promises';
import type OpenAI from 'openai';

/** The types of the package do not have the status paused. */
type Job = Omit<OpenAI.FineTuning.FineTuningJob, 'status'> & {
  status: OpenAI.FineTuning.FineTuningJob['status'] | 'paused';
};

/** The part of a version of OpenAI's package that is used. */
export interface OpenaiPackage {
  OpenAI: typeof OpenAI;
  toFile: typeof import('openai').toFile;
  APIError: typeof import('openai').APIError;
}

/** The steps of code for OpenAI's fine-tuning API, with OpenAI's own package. @returns what it has seen, as flow.py prints it */
export async function runFlow({ OpenAI, toFile, APIError }: OpenaiPackage, baseURL: string, suffix: string) {
  const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
  const jobs = client.fineTuning.jobs;

  const until = async (job: Job, ...statuses: Job['status'][]): Promise<Job> => {
    const deadline = Date.now() + 120_000;
    for (let now = job; ; now = await jobs.retrieve(job.id)) {
      if (statuses.includes(now.status)) return now;
      if (Date.now() > deadline || now.status === 'failed') {
        throw new Error(`the job is ${now.status}: ${JSON.stringify(now.error)}`);
      }
      await sleep(100);
    }
  };
  const refusal = async (call: PromiseLike<unknown>) => {
    const error = await Promise.resolve(call).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof APIError)) throw new Error(`it was not refused: ${String(error)}`);
    return { type: error.constructor.name, status: error.status, code: error.code, param: error.param };
  };
  const linesOf = async (content: string) => {
    const file = await toFile(Buffer.from(content), 'a.jsonl');
    const error: unknown = await client.files.create({ file, purpose: 'fine-tune' }).catch((thrown: unknown) => thrown);
    return [...String((error as Error).message).matchAll(/Line (\d+)/g)].map(([, line]) => Number(line));
  };
  const all = async <Item>(items: AsyncIterable<Item>): Promise<Item[]> => {
    const found: Item[] = [];
    for await (const item of items) found.push(item);
    return found;
  };

  // Files
  const content = rows(suffix, 12);
  const created = await client.files.create({
    file: await toFile(Buffer.from(content), `${suffix}.jsonl`),
    purpose: 'fine-tune',
  });
  const file = await client.files.waitForProcessing(created.id);
  const validation = await client.files.create({
    // The purpose before the file.
    purpose: 'fine-tune',
    file: await toFile(Buffer.from(rows(`${suffix} again`, 4)), `${suffix}-validation.jsonl`),
  });
  const listed = (await all(client.files.list({ limit: 1 })))
    .map(({ id }) => id)
    .filter((id) => [file.id, validation.id].includes(id));

  // A job
  const started = await jobs.create({
    training_file: file.id,
    validation_file: validation.id,
    model: 'tiny-llama',
    suffix,
    seed: 7,
    metadata: { who: suffix },
    method: {
      type: 'supervised',
      supervised: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 'auto' } },
    },
  });
  const job = await until(started, 'succeeded');
  const automatic = await jobs.create({
    training_file: file.id,
    model: 'tiny-llama',
    hyperparameters: { n_epochs: 'auto', batch_size: 'auto' },
  });
  await jobs.cancel(automatic.id);
  const events = await all(jobs.listEvents(job.id, { limit: 3 }));
  const dataOf = ({ data }: (typeof events)[number]) => (data ?? {}) as Record<string, number>;
  const checkpoints = await all(jobs.checkpoints.list(job.id, { limit: 1 }));
  const resultId = job.result_files[0]!;
  const result = (await (await client.files.content(resultId)).text()).trimEnd().split('\n');

  // The model
  const model = await client.models.retrieve(job.fine_tuned_model!);
  const models = (await all(client.models.list())).map(({ id }) => id);
  const answer = await client.chat.completions.create({
    model: model.id,
    messages: [{ role: 'user', content: 'Hello' }],
    max_tokens: 3,
  });

  // Answers in JSON, calls of tools, and fields without effect
  const question = [{ role: 'user' as const, content: 'Is it so?' }];
  const schema = {
    type: 'object',
    properties: { ok: { type: 'boolean' } },
    required: ['ok'],
    additionalProperties: false,
  };
  const ofVllm = { top_k: 20, repetition_penalty: 1.1 };
  const structured = await client.chat.completions.create({
    model: model.id,
    messages: question,
    response_format: { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } },
    store: true,
    metadata: { who: suffix },
    service_tier: 'auto',
    safety_identifier: 'somebody',
    prompt_cache_key: suffix,
    user: 'somebody',
    presence_penalty: 0.5,
    frequency_penalty: 0.5,
    ...ofVllm,
  });
  const fields = Object.entries(JSON.parse(structured.choices[0]!.message.content!));
  const tools = [{ type: 'function' as const, function: { name: 'look', parameters: schema } }];
  const asked = { model: model.id, messages: question, tools, tool_choice: 'required' as const };
  const called = (await client.chat.completions.create(asked)).choices[0]!;
  const [call] = called.message.tool_calls!;
  const ofCall = call as { id: string; function: { name: string; arguments: string } };
  const others = [...tools, { type: 'function' as const, function: { name: 'hear', parameters: schema } }];
  const named = [{ type: 'function', function: { name: 'hear' } }];
  const tool_choice = { type: 'allowed_tools' as const, allowed_tools: { mode: 'required' as const, tools: named } };
  const allowed = (await client.chat.completions.create({ ...asked, tools: others, tool_choice })).choices[0]!;
  const chunks = await all(await client.chat.completions.create({ ...asked, stream: true }));
  const deltas = chunks.flatMap(({ choices }) => choices.flatMap(({ delta }) => delta.tool_calls ?? []));
  const replied = await client.chat.completions.create({
    model: model.id,
    messages: [...question, called.message, { role: 'tool', tool_call_id: ofCall.id, content: 'yes' }],
    tools,
    max_tokens: 3,
  });

  // Preferences
  const pair = (i: number) => ({
    input: { messages: [{ role: 'user', content: `${suffix} ${i}` }], tools: [], parallel_tool_calls: true },
    preferred_output: [{ role: 'assistant', content: `${i}` }],
    non_preferred_output: [{ role: 'assistant', content: `It is ${i}.` }],
  });
  const pairs = Array.from({ length: 4 }, (_, i) => `${JSON.stringify(pair(i))}\n`).join('');
  const ofPairs = await client.files.create({
    file: await toFile(Buffer.from(pairs), `${suffix}-pairs.jsonl`),
    purpose: 'fine-tune',
  });
  const preferring = await jobs.create({
    training_file: ofPairs.id,
    model: 'tiny-llama',
    method: { type: 'dpo', dpo: { hyperparameters: { beta: 0.2, n_epochs: 1, batch_size: 2 } } },
  });
  const { method } = await until(preferring, 'succeeded');
  const metrics = (await all(jobs.listEvents(preferring.id))).filter(({ type }) => type === 'metrics');
  const preferred = [
    method?.type,
    method?.dpo?.hyperparameters?.beta,
    'rewards/margins' in (metrics[0]!.data as Record<string, unknown>),
  ];

  // Pause, resume, cancel; the older place of hyperparameters
  const long = await jobs.create({
    training_file: file.id,
    model: model.id,
    hyperparameters: { n_epochs: 50, batch_size: 1 },
  });
  await jobs.pause(long.id);
  const paused = await until(long, 'paused');
  const resumed = await jobs.resume(long.id);
  await jobs.cancel(long.id);
  const cancelled = await until(long, 'cancelled');
  const mine = (await all(jobs.list({ limit: 1 }))).map(({ id }) => id).filter((id) => [job.id, long.id].includes(id));

  // What is not supported, or does not exist
  const base = { training_file: file.id, model: 'tiny-llama' };
  const refusals = {
    reinforcement: await refusal(jobs.create({ ...base, method: { type: 'reinforcement' } })),
    integrations: await refusal(jobs.create({ ...base, integrations: [{ type: 'wandb', wandb: { project: 'x' } }] })),
    file: await refusal(jobs.create({ ...base, training_file: 'file-abc' })),
    base: await refusal(jobs.create({ ...base, model: 'gpt-4o-mini' })),
    purpose: await refusal(
      client.files.create({ file: await toFile(Buffer.from(content), 'a.jsonl'), purpose: 'assistants' }),
    ),
    image: await refusal(
      client.chat.completions.create({
        model: model.id,
        messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }] }],
      }),
    ),
    row: await refusal(
      client.files.create({ file: await toFile(Buffer.from('{"messages": 1}\n'), 'a.jsonl'), purpose: 'fine-tune' }),
    ),
  };

  const seen = {
    file: { filename: file.filename, purpose: file.purpose, status: file.status, bytes: file.bytes },
    listed: listed.join() === [validation.id, file.id].join(),
    content: (await (await client.files.content(file.id)).text()) === content,
    created: {
      object: started.object,
      status: ['queued', 'validating_files', 'running'].includes(started.status),
      seed: started.seed,
    },
    job: {
      error: job.error,
      files: [job.training_file === file.id, job.validation_file === validation.id],
      suffix: (job as { user_provided_suffix?: string }).user_provided_suffix,
      metadata: job.metadata,
      n_epochs: job.hyperparameters.n_epochs,
      batch_size: job.method?.supervised?.hyperparameters?.batch_size,
      trained: job.trained_tokens! > 0,
      finished: job.finished_at! >= job.created_at,
    },
    automatic: [automatic.hyperparameters.n_epochs, automatic.hyperparameters.batch_size],
    lines: await linesOf(`${content}{"messages": 1}\n${content}none\n`),
    events: {
      first: events.at(-1)?.message.startsWith('Created fine-tuning job'),
      last: events[0]?.message,
      unique: new Set(events.map(({ id }) => id)).size === events.length,
      steps: [
        ...new Set(events.flatMap((event) => ('train_loss' in dataOf(event) ? [dataOf(event).total_steps] : []))),
      ],
    },
    checkpoints: checkpoints.map((one) => one.step_number),
    result: [result[0], ...result.slice(1).map((line) => line.split(',')[0])],
    result_file: (await client.files.retrieve(resultId)).purpose,
    model: { id: model.id === job.fine_tuned_model, listed: models.includes(model.id) },
    // The model may end its answer at once.
    answer: { model: answer.model === model.id, tokens: answer.usage!.prompt_tokens > 0 },
    structured: Object.fromEntries(fields.map(([name, value]) => [name, typeof value === 'boolean'])),
    called: [
      called.finish_reason,
      ofCall.function.name,
      Object.keys(JSON.parse(ofCall.function.arguments)),
      deltas.map((delta) => delta.function?.name),
    ],
    allowed: allowed.message.tool_calls!.map((one) => 'function' in one && one.function.name),
    replied: replied.usage!.prompt_tokens > 0,
    preferred,
    paused: paused.status,
    resumed: resumed.status,
    cancelled: cancelled.status,
    jobs: mine.join() === [long.id, job.id].join(),
    refusals,
    deleted: [(await client.models.delete(model.id)).deleted, (await client.files.delete(file.id)).deleted],
  };
  const gone = [
    (await refusal(client.models.retrieve(model.id))).code,
    (await refusal(client.files.retrieve(file.id))).code,
  ];
  return { ...seen, gone };
}

function rows(what: string, count: number): string {
  const row = (i: number) => ({
    messages: [
      { role: 'user', content: `${what} ${i}` },
      { role: 'assistant', content: `It is ${i}.` },
    ],
  });
  return Array.from({ length: count }, (_, i) => `${JSON.stringify(row(i))}\n`).join('');
}
