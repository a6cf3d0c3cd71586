import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { JudgeServer } from '../judge-server.js';
import { expectFaults, heading, page, refusedWith, stack, tab, usePage } from './use-page.js';
import { TIMEOUT_MS } from './watched-page.js';

// Comparisons in the page: from the form to the rows side by side. Both sides are stored answers, so no worker is needed.

const KEY = 'sk-of-the-operator';
const ROWS = 25;

vi.setConfig({ testTimeout: 2 * TIMEOUT_MS });

let judge: JudgeServer;
beforeAll(async () => {
  judge = await new JudgeServer(KEY).start();
});
usePage({ worker: false, env: () => ({ JUDGE_SERVERS: judge.url, JUDGE_API_KEY: KEY }) });
afterAll(() => judge.stop());
expectFaults(refusedWith(404, 422));

let long: string;
let short: string;
const answers = async (name: string, answerOf: (i: number) => string) => {
  const rows = Array.from({ length: ROWS }, (_, i) => ({ prompt: `Say ${i}.`, completion: answerOf(i) }));
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  return (await stack.client.uploadDataset({ text }, { name })).id;
};
beforeAll(async () => {
  long = await answers('long', (i) => `It is ${i}, as you have said.`);
  short = await answers('short', (i) => (i === 0 ? 'It is 0, as you have said.' : `${i}`));
});

const field = (label: string) => page.getByLabel(label, { exact: true });

test('a comparison is asked for by keyboard, and its result has the interval and the verdict', async () => {
  await tab.open('/comparisons');
  await page.getByText('There are no comparisons yet.').waitFor();
  await field('Model a').fill(long);
  await field('Model b').fill(long);
  await field('Dataset').fill(short);
  await field('Judge').fill('judge-1');
  await field('Server of the judge').fill(judge.url);
  await field('Rubric').fill('The longer one.');
  await field('Rows').press('Enter');
  await page.getByRole('alert').getByText('would be compared with themselves').waitFor();
  await field('Model b').fill(short);
  await field('Model b').press('Enter');
  await page.getByText(`${long} is better`).waitFor();
  expect(await page.getByRole('img', { name: /^a wins 98\.0 %, between \d+\.\d % and 98\.0 % at 95 %$/ }).count()).toBe(
    1,
  );
  await page.getByText('1, of them 1 with the same answers').waitFor();
});

test('its rows are side by side in pages, with the words of the judge', async () => {
  const table = page.getByRole('table', { name: 'Rows: prompt, both answers, verdict' });
  await table
    .getByRole('row', { name: /^1 \(line 1\)/ })
    .getByText('tie', { exact: true })
    .waitFor();
  const second = table.getByRole('row', { name: /^2 \(line 2\)/ });
  await second.getByText('It is 1, as you have said.').waitFor();
  await second.getByText('What the judge said').press('Enter');
  await second.getByText('With b first, a: Verdict: B').waitFor();
  await page.getByRole('link', { name: 'Next rows' }).press('Enter');
  await table.getByRole('row', { name: /^25 \(line 25\)/ }).waitFor();
  await page.getByRole('link', { name: 'First rows' }).click();
  await second.waitFor();
});

test('a judge that fails is named, one that runs is cancelled, and one that has ended is deleted', async () => {
  judge.judging = () => () => {};
  await tab.open(`/comparisons?model=${long}`);
  expect(await field('Model a').inputValue()).toBe(long);
  for (const [label, value] of Object.entries({ 'Model b': short, Dataset: short, Judge: 'judge-1', Rubric: 'Any.' })) {
    await field(label).fill(value);
  }
  await field('Server of the judge').fill(judge.url);
  await page.getByRole('button', { name: 'Compare', exact: true }).click();
  await page.getByText(/of 25 rows/).waitFor();
  await page.getByRole('button', { name: 'Cancel the comparison' }).click();
  await page.getByText('cancelled', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('button', { name: 'Delete the comparison' }).click();
  await heading('Comparisons').waitFor();
  expect((await stack.client.listComparisons()).data).toHaveLength(1);
  await page.getByRole('row').getByText('98.0 %').waitFor();
});
