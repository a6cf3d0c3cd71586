import type { JobEvent, NewJobEvent } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { Curve, JobHistory } from './job-history.js';

function curveOf(values: readonly number[], maxPoints?: number): Curve {
  const curve = new Curve(maxPoints);
  for (const [index, value] of values.entries()) curve.add(index + 1, value);
  return curve;
}

test('as long as there is space, each step is a point', () => {
  const points = curveOf([3, 1, 2]).points();
  expect(points).toEqual({ steps: [1, 2, 3], mean: [3, 1, 2], min: [3, 1, 2], max: [3, 1, 2] });
});

test('two points become one when there are too many; mean, minimum and maximum are those of the steps', () => {
  const curve = curveOf([1, 2, 3, 4, 5, 6, 7, 8, 9], 4);
  expect(curve.stepsPerPoint).toBe(4);
  expect(curve.points()).toEqual({ steps: [4, 8, 9], mean: [2.5, 6.5, 9], min: [1, 5, 9], max: [4, 8, 9] });
});

test('a million steps stay bounded, and keep their extremes and their mean', () => {
  const values = Array.from({ length: 1_000_000 }, (_, i) => Math.sin(i / 1000) + (i === 500_123 ? 100 : 0));
  const curve = curveOf(values);
  const { steps, mean, max } = curve.points();
  expect(steps.length).toBeLessThanOrEqual(1024);
  expect(steps.length).toBeGreaterThan(512);
  expect(steps.at(-1)).toBe(1_000_000);
  expect(Math.max(...max)).toBeGreaterThan(99);
  let begin = 0;
  let total = 0;
  for (const [index, step] of steps.entries()) {
    total += mean[index]! * (step - begin);
    begin = step;
  }
  expect(total).toBeCloseTo(
    values.reduce((sum, value) => sum + value),
    3,
  );
});

test('a step that is trained again replaces it and what followed', () => {
  const curve = curveOf([5, 4, 3, 2]);
  curve.add(3, 9);
  expect(curve.points()).toMatchObject({ steps: [1, 2, 3], mean: [5, 4, 9] });
  curve.add(1, 7);
  expect(curve.points()).toMatchObject({ steps: [1], mean: [7] });
});

test('a step within a coarse point that is trained again keeps the steps ascending', () => {
  const curve = curveOf([1, 2, 3, 4, 5, 6, 7, 8, 9], 4);
  curve.add(6, 100);
  expect(curve.points().steps).toEqual([4, 6]);
  curve.add(7, 1);
  curve.add(9, 1);
  expect(curve.points().steps).toEqual([4, 7, 9]);
});

test('what is not a number is left out, and gaps stay gaps', () => {
  const curve = new Curve(4);
  curve.add(1, 1);
  curve.add(2, Number.NaN);
  curve.add(1000, 2);
  curve.add(1001, 3);
  expect(curve.points()).toMatchObject({ steps: [1, 1000, 1001], mean: [1, 2, 3] });
});

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
