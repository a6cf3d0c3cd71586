import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Locator } from 'playwright-core';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { TrainedOrigin } from '../../packages/contracts/src/index.js';
import { heldOutRows } from '../../packages/planning/src/validation-split.js';
import { figure, heading, page, refusedWith, stack, tab, unfold, usePage } from './use-page.js';
import { dropFile, TIMEOUT_MS } from './watched-page.js';

// The page in a real Chromium, with the complete product behind it: what a user does, from a file to an adapter in use.

const ROWS = Array.from({ length: 24 }, (_, i) => ({
  messages: [
    { role: 'user', content: `Say ${i}.` },
    { role: 'assistant', content: `It is ${i}.` },
  ],
}));
const linesOf = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const jsonl = (name: string, text: string) => ({ name, mimeType: 'application/x-ndjson', buffer: Buffer.from(text) });

/** Far more than are trained before the job is cancelled. */
const ENDLESS_STEPS = 200_000;

vi.setConfig({ testTimeout: 3 * TIMEOUT_MS });
const eventually = <Value>(read: () => Value) => expect.poll(read, { timeout: TIMEOUT_MS });

usePage({ permissions: ['clipboard-read', 'clipboard-write'] });

/** The messages that the console may write, because the test makes the service refuse or leave. */
let expected: RegExp[] = [];
afterEach(async ({ task }) => {
  const faults = await tab.faults();
  if (task.result?.state === 'pass')
    expect(faults.filter((one) => !expected.some((known) => known.test(one)))).toEqual([]);
  expected = [];
});
const REFUSED = refusedWith(400, 422);
const GONE =
  /^console: Failed to load resource: net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|CONNECTION_RESET)/;

/** The control of a field of the form, by the name that the API has for it. */
const field = (id: string) =>
  page
    .locator('.field', { has: page.locator('code', { hasText: new RegExp(`^${id.replaceAll('.', '\\.')}$`) }) })
    .locator('input, select, textarea');
/** Opens a group of the form. */
/** The first and the last step of a chart's first line, from the sentence that says what it shows. */
async function stepsOf(chart: Locator): Promise<{ first: number; last: number }> {
  const text = (await chart.locator('figcaption p').first().textContent()) ?? '';
  const [, first, last] = /from \S+ at step (\d+) to \S+ at step (\d+)/.exec(text) ?? [];
  return { first: Number(first), last: Number(last) };
}
/** The heading of a job with its state. */
const state = () => page.locator('.view-title');
const part = (name: string) => page.getByRole('navigation', { name: 'Parts of the job' }).getByRole('link', { name });
const lastStep = async () => (await stepsOf(figure('Loss'))).last || 0;

describe('a dataset', () => {
  test('the empty page leads to it', async () => {
    await page.goto(stack.url);
    await heading('Jobs').waitFor();
    await page.getByText('There are no jobs yet.').waitFor();
    await page.getByRole('link', { name: 'Upload a dataset' }).click();
    await heading('Datasets').waitFor();
    expect(await page.title()).toBe('Datasets · Lorasmith');
  });

  test('a file with faults is refused, each of them with its line', async () => {
    expected = [REFUSED];
    const text = `${linesOf(ROWS.slice(0, 1))}{"messages": [}\n{"question": "Who?"}\n`;
    await page.getByLabel('File').setInputFiles(jsonl('bad.jsonl', text));
    const alert = page.getByRole('alert');
    await alert.getByText('line 2: ').waitFor();
    await alert.getByText('line 3: ').waitFor();
    await page.getByText('There are no datasets yet.').waitFor();
  });

  test('a dataset is uploaded by dropping its file', async () => {
    const file = path.join(stack.folder, 'dropped.jsonl');
    await writeFile(file, linesOf(ROWS));
    await dropFile(page.locator('.drop-zone'), file);
    await page.getByText('24 rows of messages').waitFor();
    await page.getByRole('row', { name: /dropped\.jsonl messages 24/ }).waitFor();
  });

  test('a dataset is uploaded by choosing its file, and its rows are seen as the model reads them', async () => {
    await page.getByLabel('File').setInputFiles(jsonl('chosen.jsonl', linesOf(ROWS.slice(0, 12))));
    await page.getByRole('status').getByRole('link', { name: 'chosen.jsonl' }).click();
    await heading('chosen.jsonl').waitFor();
    await page.getByText('It is 0.').waitFor();
    await page.getByLabel('Show').selectOption({ label: 'as tokens of tiny-llama' });
    const row = page.getByRole('listitem').filter({ has: page.getByRole('heading', { name: 'Line 2', exact: true }) });
    const trained = row.locator('.token-text mark.trained');
    await trained.first().waitFor();
    const letters = await trained.locator('.token').allTextContents();
    expect(letters.join('').replaceAll(/[␣·]/g, ' ')).toContain('It is 1.');
    const all = await row.locator('.token-text .token').allTextContents();
    expect(all.length).toBeGreaterThan(letters.length);
    await page.reload();
    await trained.first().waitFor();
  });
});

describe('a job', () => {
  let address: string;

  test('the form shows what is wrong where it is wrong, and what the job would do', async () => {
    expected = [REFUSED];
    await page.getByRole('link', { name: 'New job' }).first().click();
    await page.getByRole('navigation').getByRole('link', { name: 'Datasets' }).click();
    await page.getByRole('link', { name: 'dropped.jsonl' }).click();
    await page.getByRole('main').getByRole('link', { name: 'New job' }).click();
    await heading('New job').waitFor();
    await field('base_model').selectOption('tiny-llama');
    await page.getByText('Checked: it can be started.').waitFor();
    await unfold('Adapter');
    const wrong = { many: 'must be integer', '0': 'must be >= 1', '100000': 'must be <= 512' };
    for (const [value, fault] of Object.entries(wrong)) {
      await field('lora.r').fill(value);
      await page.locator('.field-error').getByText(fault).waitFor();
      expect(await field('lora.r').getAttribute('aria-invalid')).toBe('true');
    }
    await field('lora.r').fill('4');
    await field('lora.target_modules').fill('q_porj');
    await page.getByText(/No layer is named "q_porj"/).waitFor();
    await field('lora.target_modules').fill('q_proj, v_proj');
    await page.getByText('Checked: it can be started.').waitFor();
    await eventually(() => field('lora.r').getAttribute('aria-invalid')).toBe('false');
  });

  test('a job is started from the form, which survives a reload', async () => {
    await field('name').fill('first');
    await field('validation.split').fill('0.25');
    await unfold('Training');
    await field('training.batch_size').fill('2');
    await field('training.max_steps').fill(String(ENDLESS_STEPS));
    await field('training.eval_every_steps').fill('100');
    await field('training.checkpoint_every_steps').fill('100');
    await field('samples.prompts').fill('Say 3.');
    await page.getByText('Checked: it can be started.').waitFor();
    const report = page.getByRole('complementary');
    await report.getByText(ENDLESS_STEPS.toLocaleString('en-US')).first().waitFor();
    expect(await report.getByText('curl').first().textContent()).toContain(stack.url.slice(0, -1));
    await page.reload();
    await page.getByText('Checked: it can be started.').waitFor();
    expect(await field('name').inputValue()).toBe('first');
    await page.getByRole('button', { name: 'Start the job' }).click();
    await heading('first').waitFor();
    address = page.url();
    const [job] = (await stack.client.listJobs()).data;
    expect(job).toMatchObject({
      name: 'first',
      lora: { r: 4, target_modules: ['q_proj', 'v_proj'] },
      training: { max_steps: ENDLESS_STEPS, checkpoint_every_steps: 100 },
    });
  });

  test('the curves of a job move, and after a reload nothing is lost', async () => {
    await state().getByText('running').waitFor();
    await eventually(lastStep).toBeGreaterThan(1);
    const seen = await lastStep();
    await eventually(lastStep).toBeGreaterThan(seen);
    await figure('Loss').locator('canvas').waitFor();
    await page.reload();
    await heading('first').waitFor();
    await eventually(lastStep).toBeGreaterThan(seen);
    expect((await stepsOf(figure('Loss'))).first).toBe(1);
    await page.getByRole('heading', { name: 'Before training', exact: true }).waitFor();
    await part('Settings and report').click();
    await page.getByRole('heading', { name: 'Report before training' }).waitFor();
  });

  test('a lost connection is shown, and what happened meanwhile comes when it is back', async () => {
    expected = [GONE];
    await stack.stopApi();
    await page.getByText('The connection to the service is lost.').waitFor();
    const seen = await lastStep();
    await stack.startApi();
    await page.getByText('Connected again.').waitFor();
    expect(await page.getByText('The connection to the service is lost.').count()).toBe(0);
    await eventually(lastStep).toBeGreaterThan(seen);
    expect((await stepsOf(figure('Loss'))).first).toBe(1);
  });

  test('a job is cancelled, resumed, and cancelled again', async () => {
    const cancel = async () => {
      await page.getByRole('button', { name: 'Cancel the job' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Cancel the job' }).click();
      await state().getByText('cancelled', { exact: true }).waitFor();
    };
    await cancel();
    const stopped = await lastStep();
    await page.getByRole('button', { name: 'Resume' }).click();
    await state().getByText('running').waitFor();
    await eventually(lastStep).toBeGreaterThan(stopped);
    await cancel();
  });

  test('one of its checkpoints is published', async () => {
    await part('Checkpoints').click();
    await page
      .getByRole('button', { name: /^Publish step / })
      .first()
      .click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name of the adapter').fill('from-checkpoint');
    await dialog.getByRole('button', { name: 'Publish' }).click();
    await page.getByText('publishes the checkpoint of step').waitFor();
    await state().getByText('succeeded').waitFor();
    await page.getByRole('link', { name: 'See the adapter' }).click();
    await heading('from-checkpoint').waitFor();
    await page.goto(address);
    await heading('first').waitFor();
  });
});

describe('an adapter', () => {
  let id: string;

  test('a second job succeeds, and both are compared', async () => {
    const [first] = (await stack.client.listJobs()).data.filter(({ name }) => name === 'first');
    const { id: second } = await stack.client.createJob({
      base_model: 'tiny-llama',
      dataset: first!.dataset,
      name: 'second',
      validation: { split: 0.25 },
      lora: { r: 8, alpha: 16 },
      training: { max_steps: 40, batch_size: 4, learning_rate: 0.01, eval_every_steps: 10 },
      samples: { prompts: ['Say 3.'], max_tokens: 8 },
    });
    await page.getByRole('navigation').getByRole('link', { name: 'Jobs' }).click();
    await page.getByRole('row', { name: /^second succeeded/ }).waitFor();
    await page.getByLabel('Choose first').check();
    await page.getByLabel('Choose second').check();
    await page.getByRole('link', { name: 'Compare 2 jobs' }).click();
    await heading('Compare jobs').waitFor();
    for (const chart of ['Training loss', 'Held-out loss']) {
      await figure(chart)
        .getByText(/^second .*: from \S+ at step \d+ to \S+ at step 40;/)
        .waitFor();
      await figure(chart)
        .getByText(/^first .*: from /)
        .waitFor();
    }
    await page.reload();
    await figure('Training loss')
      .getByText(/^second .*: from /)
      .waitFor();
    id = (await stack.client.getJob(second)).adapter!;
  });

  test('the list of jobs reads only the events that it has not shown before', async () => {
    const open = (name: string) => page.getByRole('navigation').getByRole('link', { name, exact: true }).click();
    await open('Jobs');
    await page.locator('.loss-line').nth(1).waitFor();
    await open('Adapters');
    await heading('Adapters').waitFor();
    const earlier = tab.requests.length;
    await open('Jobs');
    await page.locator('.loss-line').nth(1).waitFor();
    const read = tab.requests.slice(earlier).filter((url) => url.includes('/events?'));
    expect(read.length).toBeGreaterThanOrEqual(2);
    for (const url of read) expect(new URL(url).searchParams.get('after')).not.toBeNull();
  });

  test('the jobs are sorted by a press on a title, and the address keeps that', async () => {
    await page.getByRole('navigation').getByRole('link', { name: 'Jobs', exact: true }).click();
    const names = () => page.locator('.data-table tbody th').allTextContents();
    await eventually(names).toHaveLength(3);
    const newest = await names();
    await page.getByRole('button', { name: 'Job', exact: true }).click();
    await eventually(names).toEqual([...newest].sort());
    await page.getByRole('button', { name: /^Job/ }).press('Enter');
    await eventually(names).toEqual([...newest].sort().reverse());
    expect(await page.getByRole('columnheader', { name: /^Job/ }).getAttribute('aria-sort')).toBe('descending');
    await page.reload();
    await eventually(names).toEqual([...newest].sort().reverse());
    await page.getByRole('button', { name: /^Job/ }).click();
    await eventually(names).toEqual(newest);
  });

  test('the jobs are found by a part of their names, from the keyboard', async () => {
    const names = () => page.locator('.data-table tbody th').allTextContents();
    await page.keyboard.press('/');
    await page.keyboard.type('SECO');
    await eventually(names).toEqual(['second']);
    await page.reload();
    await eventually(names).toEqual(['second']);
    await page.getByLabel('Find').fill('no such job');
    await eventually(names).toEqual([]);
    await page.getByLabel('Find').fill('');
    await eventually(names).toHaveLength(3);
  });

  test('the loss is smoothed, by logarithm, and over tokens or time, and the address keeps that', async () => {
    await page.getByRole('link', { name: 'second', exact: true }).first().click();
    await heading('second').waitFor();
    const loss = figure('Loss');
    const legend = () => loss.locator('.u-legend .u-label').allTextContents();
    const drawn = () => loss.locator('canvas').evaluate((canvas: { toDataURL(): string }) => canvas.toDataURL());
    await eventually(legend).toEqual(['Step', 'training', 'smoothed', 'held-out rows']);
    const smooth = loss.getByLabel('Smooth');
    await smooth.focus();
    await smooth.press('Home');
    await eventually(legend).toEqual(['Step', 'training', 'held-out rows']);
    const linear = await drawn();
    await loss.getByLabel('Log').check();
    await eventually(drawn).not.toBe(linear);
    for (const [over, title] of Object.entries({ tokens: 'Tokens', time: 'Time' })) {
      await loss.getByLabel('Over').selectOption(over);
      await eventually(legend).toEqual([title, 'training', 'held-out rows']);
    }
    await page.reload();
    await eventually(legend).toEqual(['Time', 'training', 'held-out rows']);
    expect(await loss.getByLabel('Log').isChecked()).toBe(true);
    for (const chart of ['Accuracy', 'Learning rate', 'Gradient norm', 'Tokens/s']) {
      await figure(chart).locator('canvas').waitFor();
    }
  });

  test('an adapter is delivered into a folder, and a server that is not allowed is refused', async () => {
    await page.getByRole('navigation').getByRole('link', { name: 'Adapters' }).click();
    await page.getByRole('link', { name: 'second', exact: true }).click();
    await page.getByLabel('Deliver to').selectOption('the delivery folder');
    await page.getByLabel('Name there').fill('dates');
    await page.getByRole('button', { name: 'Deliver', exact: true }).click();
    await page.getByRole('row', { name: /^folder dates delivered/ }).waitFor();
    expected = [REFUSED];
    await page.getByLabel('Deliver to').selectOption('a vLLM server');
    await page.getByRole('textbox', { name: 'vLLM server' }).fill('http://127.0.0.1:8000');
    await page.getByRole('button', { name: 'Deliver', exact: true }).click();
    await page.getByText('DELIVERY_SERVERS').waitFor();
    expect((await stack.client.deliveries(id)).map(({ status }) => status)).toEqual(['delivered']);
  });

  test('an adapter is downloaded, and its commands are copied', async () => {
    await page.getByRole('navigation').getByRole('link', { name: 'Adapters' }).click();
    await page.getByRole('link', { name: 'second', exact: true }).click();
    await heading('second').waitFor();
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('link', { name: 'Adapter (PEFT, tar)' }).click(),
    ]);
    const tar = await readFile(await download.path());
    expect(tar.includes('adapter_config.json')).toBe(true);
    expect(tar.length).toBeGreaterThan(10_000);
    const [command] = await page.getByRole('button', { name: /^Copy the command for / }).all();
    await command!.click();
    const copied = page.locator('.toast', { hasText: /^Copied the command for / });
    await copied.waitFor();
    expect(await page.evaluate('navigator.clipboard.readText()')).toContain(id);
    // A message goes by itself.
    await copied.waitFor({ state: 'detached' });
    await page.getByText('Checks before it was published').waitFor();
  });

  test('a name is pointed at an adapter, moved to another one, rolled back and deleted', async () => {
    expected = [REFUSED];
    const names = page.getByRole('region', { name: 'Names' });
    const other = (await stack.client.listAdapters({ limit: 100 })).data.find((adapter) => adapter.id !== id)!;
    await stack.client.moveAlias('support-bot', { adapter: other.id });
    await page.reload();
    await names.getByText('No name points to it.').waitFor();
    await names.getByLabel('Point a name at it').fill('support-bot');
    await names.getByText(`It points to ${other.id} now.`).waitFor();
    await names.getByRole('button', { name: 'Point the name at this adapter' }).click();
    await names.getByText(/^support-bot, version 2, since/).waitFor();
    expect(await stack.client.alias('support-bot')).toMatchObject({ adapter: id, version: 2 });
    await names.getByRole('button', { name: 'Roll back support-bot' }).click();
    await names.getByText('No name points to it.').waitFor();
    expect(await stack.client.alias('support-bot')).toMatchObject({ adapter: other.id, version: 3 });

    await names.getByLabel('Point a name at it').fill('Not a name');
    await names.getByLabel('Point a name at it').press('Enter');
    await names.getByText('The name was not moved').waitFor();
    await names.getByLabel('Point a name at it').fill('support-bot');
    await names.getByLabel('Point a name at it').press('Enter');
    await names.getByText(/^support-bot, version 4, since/).waitFor();
    await names.getByRole('button', { name: 'Delete support-bot' }).click();
    await page.getByRole('button', { name: 'Delete the name' }).click();
    await names.getByText('No name points to it.').waitFor();
    await expect(stack.client.alias('support-bot')).rejects.toMatchObject({ code: 'alias_not_found' });
  });

  test('an adapter answers beside its base model, and the conversation survives a reload', async () => {
    await page.getByRole('link', { name: 'Chat with it' }).click();
    await heading('Chat').waitFor();
    await page.getByText('Settings', { exact: true }).click();
    await page.getByLabel('Maximum tokens').fill('8');
    await page.getByLabel('Your message').fill('Say 3.');
    await page.getByLabel('Your message').press('Enter');
    const answers = page.getByRole('region', { name: 'Turn 1' }).locator('.chat-answer');
    await eventually(() => answers.count()).toBe(2);
    const texts = async () => await answers.locator('.chat-text').allTextContents();
    await eventually(
      async () => await page.getByRole('region', { name: 'Turn 1' }).getByText('answering …').count(),
    ).toBe(0);
    await eventually(async () => (await texts()).every((text) => text.length > 0)).toBe(true);
    const before = await texts();
    await page.reload();
    await answers.first().waitFor();
    expect(await texts()).toEqual(before);
  });

  test('a second adapter answers beside them, a row that they have not seen', async () => {
    await page.getByRole('button', { name: 'New conversation' }).click();
    const second = page.getByLabel('Second adapter');
    await second.selectOption({ index: 1 });
    const suggestions = page.getByRole('region', { name: 'Questions of the dataset' });
    await suggestions.getByText('Ask a row that it has not seen:').waitFor();
    const { origin } = await stack.client.manifest(id);
    const { settings } = origin as TrainedOrigin;
    const heldOut = heldOutRows(ROWS.length, settings.validation.split, settings.training.seed);
    const unseen = ROWS.filter((_, index) => heldOut.has(index)).map(({ messages }) => messages[0]!.content);
    const offered = await suggestions.getByRole('button').allTextContents();
    expect(offered).toEqual(unseen.slice(0, offered.length));
    await suggestions.getByRole('button').first().click();
    const turn = page.getByRole('region', { name: 'Turn 1' });
    await eventually(() => turn.locator('.chat-answer').count()).toBe(3);
    expect(await turn.locator('.chat-answer .chat-speaker').allTextContents()).toEqual([
      'tiny-llama',
      'second',
      'from-checkpoint',
    ]);
    await eventually(() => turn.getByText('answering …').count()).toBe(0);
    await turn.getByText('The dataset says:').waitFor();
    await page.reload();
    await eventually(() => turn.locator('.chat-answer').count()).toBe(3);
  });

  test('the machine that trained it is shown', async () => {
    await page.getByRole('navigation').getByRole('link', { name: 'Machines' }).click();
    await heading('Machines').waitFor();
    await page.getByText('GFLOP/s').first().waitFor();
    const load = page.getByRole('region', { name: 'Load' });
    await load.getByRole('progressbar', { name: /^Processor busy/ }).waitFor();
    await load.getByRole('progressbar', { name: /^Memory: \S+ \S+ of \S+ \S+ in use/ }).waitFor();
  });
});
