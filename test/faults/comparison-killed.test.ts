import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { JudgeServer, LONGER } from '../judge-server.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, startStand } from './stand/fault-stand.js';
import { BASE_MODEL, DATASET_TEXT } from './stand/jobs-of-the-suite.js';

// The api is killed while it compares. Another process finishes the comparison, and pays for no answer and no verdict twice.

const KEY = 'sk-of-the-operator';
const ROWS = 12;
let stand: FaultStand;
let api: Part;
let judge: JudgeServer;

beforeAll(async () => {
  judge = await new JudgeServer(KEY).start();
  const env = { JUDGE_SERVERS: judge.url, JUDGE_API_KEY: KEY };
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir'), env });
  await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  api = await stand.startApi();
});
afterAll(async () => {
  judge?.stop();
  await stand?.close();
});

test('with rows that are judged, half judged and not begun: what is there is not asked for again', async () => {
  const { client } = stand;
  let judged = 0;
  // The sixth verdict and those after it never come.
  judge.judging = (answers, message) => (++judged > 5 ? () => {} : LONGER(answers, message));
  const { id: dataset } = await client.uploadDataset({ text: DATASET_TEXT });
  const { id } = await client.createComparison({
    ...{ models: [BASE_MODEL, dataset], dataset, rows: ROWS, max_tokens: 8 },
    judge: { model: 'judge-1', url: judge.url, rubric: 'The longer one.', timeout_seconds: 600 },
  });
  const verdicts = async () => {
    const { data } = await client.comparisonRows(id, { limit: 100 });
    return { rows: data, count: data.flatMap((row) => row.verdicts).filter((verdict) => verdict !== null).length };
  };
  const before = await eventually('five verdicts are kept', async () => {
    const found = await verdicts();
    return found.count === 5 ? found : undefined;
  });
  api.signal('SIGKILL');
  await api.exited;
  judge.judging = LONGER;
  judge.messages = [];
  api = await stand.startApi();
  const ended = await client.waitForComparison(id);
  expect(ended).toMatchObject({ status: 'succeeded', progress: { rows: ROWS, total: ROWS }, result: { failed: 0 } });
  const after = await verdicts();
  for (const row of before.rows.filter(({ answers }) => answers.every((answer) => answer !== null))) {
    const now = after.rows.find(({ number }) => number === row.number)!;
    expect(now.answers).toEqual(row.answers);
    for (const [order, verdict] of row.verdicts.entries())
      if (verdict !== null) expect(now.verdicts[order]).toEqual(verdict);
  }
  const identical = ended.result!.identical;
  expect(judge.messages).toHaveLength(2 * (ROWS - identical) - before.count);
});
