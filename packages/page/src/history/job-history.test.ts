import type { JobEvent, NewJobEvent } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { JobHistory } from './job-history.js';

let id = 0;
function eventOf(event: NewJobEvent): JobEvent {
  id += 1;
  return { id: `${id}-0`, job: 'job_1', created_at: '2026-01-01T00:00:00.000Z', ...event };
}

function stepOf(step: number, loss = 1 / step): JobEvent {
  const data = {
    step,
    total_steps: 10,
    epoch: 1,
    loss,
    accuracy: 0.5,
    learning_rate: 0.1,
    grad_norm: 1,
    tokens_per_second: 5,
  };
  return eventOf({ type: 'step-finished', data: { ...data, seconds_left: 10 - step } });
}

const evaluationOf = (step: number, loss: number) =>
  eventOf({
    type: 'evaluation-finished',
    data: { step, loss, perplexity: null, accuracy: 0.5, tokens: 1, trained_tokens: 1 },
  });
const samplesOf = (step: number) => eventOf({ type: 'samples-generated', data: { step, samples: [] } });

function historyOf(...events: JobEvent[]): JobHistory {
  const history = new JobHistory();
  for (const event of events) history.add(event);
  return history;
}

const answersOf = (step: number, reward: number) => {
  const answer = { text: 'a', tokens: 1, reward, finish_reason: 'stop' as const };
  return eventOf({ type: 'answers-graded', data: { step, line: 1, prompt: 'x', answers: [answer] } });
};

test('graded answers are kept by step, those after a restart in the place of those before', () => {
  const history = historyOf(answersOf(1, 0), answersOf(2, 0), answersOf(3, 0), answersOf(2, 1));
  expect(history.answerRounds.map(({ step, answers }) => [step, answers[0]!.reward])).toEqual([
    [1, 0],
    [2, 1],
  ]);
  expect(history.noted).toEqual([]);
});

test('each further checkpoint is noticed, however many there are', () => {
  const history = new JobHistory();
  const seen = new Set<string | undefined>();
  for (let step = 1; step <= 500; step++) {
    history.add(eventOf({ type: 'checkpoint-saved', data: { step } }));
    seen.add(history.lastSaved);
  }
  expect([seen.size, seen.has(undefined)]).toEqual([500, false]);
});

test('events become curves, evaluations, samples and notes', () => {
  const last = eventOf({ type: 'adapter-published', data: { adapter: 'ad_1' } });
  const history = historyOf(
    evaluationOf(0, 3),
    samplesOf(0),
    stepOf(1),
    stepOf(2),
    evaluationOf(2, 1),
    samplesOf(2),
    last,
  );
  expect(history.curves.loss.points()).toMatchObject({ steps: [1, 2], mean: [1, 0.5] });
  expect(history.lastStep?.step).toBe(2);
  expect(history.bestEvaluation).toMatchObject({ step: 2, loss: 1 });
  expect(history.sampleRounds.map(({ step }) => step)).toEqual([0, 2]);
  expect(history.noted.map(({ type }) => type)).not.toContain('step-finished');
  expect(history.hasEnded).toBe(true);
  expect(history.lastEventId).toBe(last.id);
});

test('curves of preferences have the steps that have their value, also after a restart', () => {
  const judged = (step: number, preference: object): JobEvent => {
    const { data, ...event } = stepOf(step) as Extract<JobEvent, { type: 'step-finished' }>;
    return { ...event, data: { ...data, preference: { 'rewards/accuracies': 1, ...preference } } };
  };
  const history = historyOf(
    judged(1, { 'rewards/chosen': 1, 'rewards/rejected': -1, kl: 0 }),
    judged(2, { 'rewards/chosen': 2, kl: 0.5 }),
    judged(3, { 'rewards/chosen': 3, 'rewards/rejected': -3, kl: 1 }),
  );
  expect(history.curves['rewards/rejected'].points().steps).toEqual([1, 3]);
  expect(history.curves.kl.points()).toMatchObject({ steps: [1, 2, 3], mean: [0, 0.5, 1] });
  history.add(judged(2, { 'rewards/chosen': 2, kl: 0.5 }));
  expect(history.curves['rewards/rejected'].points().steps).toEqual([1]);
  expect(history.curves['rewards/margins'].points().steps).toEqual([]);
});

test('after a restart, what was trained again counts', () => {
  const history = historyOf(stepOf(1), stepOf(2), evaluationOf(2, 5), samplesOf(2), stepOf(3, 9), evaluationOf(3, 1));
  for (const event of [stepOf(2, 7), evaluationOf(2, 4)]) history.add(event);
  expect(history.curves.loss.points()).toMatchObject({ steps: [1, 2], mean: [1, 7] });
  expect(history.evaluations.map(({ loss }) => loss)).toEqual([4]);
});

test('a resumed job has not ended', () => {
  const history = historyOf(eventOf({ type: 'job-cancelled', data: {} }));
  expect(history.hasEnded).toBe(true);
  history.add(eventOf({ type: 'job-resumed', data: {} }));
  expect(history.hasEnded).toBe(false);
});

test('the memory of a long job is bounded, and says from which step on the service has events', () => {
  const history = new JobHistory();
  for (let step = 80_001; step <= 180_000; step += 1) {
    history.add(stepOf(step));
    history.add(evaluationOf(step, 1));
    if (step % 10 === 0) history.add(samplesOf(step));
  }
  expect(history.firstStep).toBe(80_001);
  expect(history.curves.loss.points().steps.length).toBeLessThanOrEqual(1024);
  expect(history.evaluations.length).toBeLessThanOrEqual(1000);
  expect(history.evaluations.at(-1)?.step).toBe(180_000);
  expect(history.evaluations[0]?.step).toBe(80_001);
  expect(history.sampleRounds.length).toBeLessThanOrEqual(100);
  expect(history.noted).toHaveLength(200);
});
