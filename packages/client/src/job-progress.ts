import type { EventData, JobEvent, SamplePrompt } from '@lorasmith/contracts';
import { faultLines } from './api-error.js';
import { preferenceLine, reportText } from './report-text.js';
import { countText, durationText, printable, redraw, type TextOutput } from './text-output.js';

export interface JobProgressDisplay {
  handle(event: JobEvent): void;
  /** Ends the line of an open bar. Call it after the last event. */
  end(): void;
}

/** Time between step lines in a file or pipe. On a terminal, the bar is redrawn at every event. */
const PLAIN_LINE_INTERVAL_MS = 10_000;

export interface JobProgressOptions {
  /** Prompts of the job's samples, which are shown with the answers. @defaultValue only their numbers are shown */
  prompts?: readonly SamplePrompt[] | undefined;
  now?: () => number;
}

/** Shows the events of a job: on a terminal as a bar with loss, speed and remaining time, elsewhere as lines. */
export function createJobProgress(
  output: TextOutput,
  { prompts = [], now = Date.now }: JobProgressOptions = {},
): JobProgressDisplay {
  let barIsOpen = false;
  let plainLineAt = Number.NEGATIVE_INFINITY;
  const evaluations: EventData<'evaluation-finished'>[] = [];

  const line = (text: string) => {
    if (barIsOpen) redraw(output, '');
    barIsOpen = false;
    output.write(`${text}\n`);
  };

  const progress = (isLast: boolean, textOf: (columns: number) => string) => {
    if (output.isTTY) {
      redraw(output, textOf(output.columns || 80));
      barIsOpen = true;
    } else if (isLast || now() - plainLineAt >= PLAIN_LINE_INTERVAL_MS) {
      plainLineAt = now();
      line(textOf(100));
    }
  };

  return {
    handle(event) {
      if (event.type === 'tokenizing-progressed') {
        const { rows, total_rows } = event.data;
        return progress(rows === total_rows, (columns) => tokenizingText(event.data, columns));
      }
      if (event.type === 'reference-progressed') {
        const { pairs, total_pairs } = event.data;
        return progress(pairs === total_pairs, (columns) => referenceText(event.data, columns));
      }
      if (event.type === 'step-finished') {
        const { step, total_steps } = event.data;
        return progress(step === total_steps, (columns) => stepText(event.data, columns));
      }
      // The bar stays visible above the next lines.
      if (barIsOpen && event.type !== 'checkpoint-saved') output.write('\n');
      if (event.type !== 'checkpoint-saved') barIsOpen = false;
      for (const text of eventText(event, prompts)) line(text);
      if (event.type === 'evaluation-finished') evaluations.push(event.data);
      if (event.type !== 'adapter-published') return;
      const worse = worseOnHeldOutRows(evaluations, event.data.step);
      if (worse !== null) line(`warning: ${worseText(worse, (value) => value.toPrecision(4))}`);
    },
    end() {
      if (barIsOpen) output.write('\n');
      barIsOpen = false;
    },
  };
}

/** ` 42/150 [███████·········]  28 %  loss 0.412  612 tokens/s  1 min 20 s left`, fitted to `columns`. */
export function stepText(data: EventData<'step-finished'>, columns: number): string {
  const { step, total_steps, loss, group, tokens_per_second, seconds_left } = data;
  const count = `${String(step).padStart(String(total_steps).length)}/${total_steps}`;
  const result = group === undefined ? `loss ${loss.toFixed(3)}` : `reward ${group.reward.toFixed(3)}`;
  const figures = `${result}  ${Math.round(tokens_per_second)} tokens/s  ${durationText(seconds_left)} left`;
  return barText(count, step / total_steps, figures, columns);
}

/** ` 9,728/46,864 rows tokenized [██····]  20 %`, fitted to `columns`. */
export function tokenizingText(data: EventData<'tokenizing-progressed'>, columns: number): string {
  const { rows, total_rows } = data;
  const total = countText(total_rows);
  return barText(`${countText(rows).padStart(total.length)}/${total} rows tokenized`, rows / total_rows, '', columns);
}

/** ` 128/1,000 rows read by the reference [██····]  12 %`, fitted to `columns`. */
export function referenceText(data: EventData<'reference-progressed'>, columns: number): string {
  const { pairs, total_pairs: total } = data;
  const count = `${countText(pairs).padStart(countText(total).length)}/${countText(total)}`;
  return barText(`${count} rows read by the reference`, pairs / total, '', columns);
}

/** `COUNT [███···]  28 %  MORE`, fitted to `columns`. */
export function barText(count: string, share: number, more: string, columns: number): string {
  const figures = `${String(Math.floor(100 * share)).padStart(3)} %  ${more}`.trimEnd();
  // A full last column makes some terminals wrap.
  const width = Math.min(30, columns - count.length - figures.length - 6);
  if (width < 5) return `${count} ${figures}`.slice(0, columns - 1);
  const filled = Math.round(width * share);
  return `${count} [${'█'.repeat(filled)}${'·'.repeat(width - filled)}] ${figures}`;
}

/** An event as lines of text. @param prompts - Those of the job's samples */
export function eventText(
  event: Exclude<JobEvent, { type: 'step-finished' | 'tokenizing-progressed' | 'reference-progressed' }>,
  prompts: readonly SamplePrompt[] = [],
): string[] {
  switch (event.type) {
    case 'job-queued':
      return [`${event.job} is queued`];
    case 'job-started':
      return [`started${event.data.attempt > 1 ? ` again (attempt ${event.data.attempt})` : ''}`];
    case 'report-ready':
      return event.data.report.preference?.reference_accuracy == null
        ? reportText(event.data.report)
        : [preferenceLine(event.data.report.preference)];
    case 'evaluation-finished': {
      const { step, loss, perplexity, accuracy, tokens, trained_tokens: trained, preference, group } = event.data;
      const when = step === 0 ? 'before training' : `after step ${step}`;
      if (group !== undefined) {
        const length = group['completions/mean_length'].toFixed(1);
        return [`evaluation ${when}: reward ${group.reward.toFixed(4)}, answers of ${length} tokens`];
      }
      const margin = preference?.['rewards/margins'];
      const extra = [
        perplexity === null ? '' : `, perplexity ${perplexity.toPrecision(4)}`,
        `, ${(100 * accuracy).toFixed(1)} % right, over ${trained} of ${tokens} tokens`,
        margin === undefined ? '' : `, margin of the rewards ${margin.toPrecision(3)}`,
      ].join('');
      return [`evaluation ${when}: loss ${loss.toFixed(4)}${extra}`];
    }
    case 'samples-generated':
      return samplesText(event.data, prompts);
    case 'answers-graded':
      return answersText(event.data);
    case 'checkpoint-saved':
      return [];
    case 'checkpoint-loaded':
      return [`continues after step ${event.data.step}`];
    case 'training-stopped-early': {
      const { step, best_step, best_loss } = event.data;
      return [`stopped early after step ${step}: the lowest loss was ${best_loss.toFixed(4)}, after step ${best_step}`];
    }
    case 'adapter-published':
      return [`adapter ${event.data.adapter} is published`];
    case 'job-failed':
      return [
        `failed (${event.data.error.code}): ${event.data.error.message}`,
        ...faultLines(event.data.error.details),
      ];
    case 'job-cancelled':
      return ['cancelled'];
    case 'job-paused':
      return [`paused: resume it with lora jobs resume ${event.job}`];
    case 'job-resumed':
      return ['resumed: waiting for a worker'];
  }
}

/** Each prompt, in one line, and its answer below it. */
function samplesText(
  { step, samples, scores }: EventData<'samples-generated'>,
  prompts: readonly SamplePrompt[],
): string[] {
  const answers = samples.flatMap(({ prompt, text, finish_reason: reason }) => {
    const answer = `${printable(text)}${reason === 'length' ? '…' : ''}`;
    return [
      `  > ${promptText(prompts[prompt]) ?? `prompt ${prompt}`}`,
      ...answer.split('\n').map((one) => `    ${one}`),
    ];
  });
  const when = step === 0 ? 'before training' : `after step ${step}`;
  const compared =
    scores === undefined
      ? []
      : [
          `answers to ${scores.rows} held-out rows ${when}: exact match ${(100 * scores.exact_match).toFixed(1)} %, F1 ${scores.f1.toFixed(3)}, ROUGE-L ${scores.rouge_l.toFixed(3)}`,
        ];
  return [...(samples.length === 0 ? [] : [`samples ${when}:`, ...answers]), ...compared];
}

/** The prompt of some graded answers, in one line, and below it each answer with its reward. */
function answersText({
  step,
  line,
  prompt,
  answers,
  judge_tokens: judgeTokens,
}: EventData<'answers-graded'>): string[] {
  return [
    `answers of step ${step}, line ${line}:`,
    `  > …${printable(prompt).replace(/\s+/g, ' ').trim().slice(-PROMPT_LENGTH)}`,
    ...answers.map(({ text, reward, finish_reason: reason }) => {
      const answer = printable(text).replace(/\s+/g, ' ');
      return `    ${reward.toFixed(3).padStart(7)}  ${answer}${reason === 'length' ? '…' : ''}`;
    }),
    ...(judgeTokens === undefined
      ? []
      : [`  the judge has read and written ${judgeTokens} tokens since the answers before`]),
  ];
}

const PROMPT_LENGTH = 100;

/** The last message of a conversation. */
function promptText(prompt: SamplePrompt | undefined): string | undefined {
  const text = typeof prompt === 'string' ? prompt : prompt?.at(-1)?.content;
  const line = text?.replace(/\s+/g, ' ');
  return line !== undefined && line.length > PROMPT_LENGTH ? `${line.slice(0, PROMPT_LENGTH)}…` : line;
}

type Evaluated = Pick<EventData<'evaluation-finished'>, 'step' | 'loss' | 'group'>;

/** The evaluations of an adapter that is worse on held-out rows than its base model. */
export interface HeldOutLoss<Evaluation extends Evaluated = Evaluated> {
  before: Evaluation;
  /** The evaluation of the state that was published, or the newest one. */
  after: Evaluation;
  /** The best evaluation of all. */
  best: Evaluation;
}

/** A smaller change of the loss, as a share of what it was, may come from rounding. */
const NOTABLE_SHARE = 0.01;

/**
 * The evaluations of a job that got worse on its held-out rows; null for any other job, and before the second evaluation.
 * @param evaluations - By step, ascending
 * @param publishedStep - The step of the state that became the adapter. @defaultValue the newest evaluation counts
 */
export function worseOnHeldOutRows<Evaluation extends Evaluated>(
  evaluations: readonly Evaluation[],
  publishedStep = Number.POSITIVE_INFINITY,
): HeldOutLoss<Evaluation> | null {
  const [before] = evaluations;
  const after = evaluations.findLast(({ step }) => step <= publishedStep);
  if (before === undefined || after === undefined || after === before || before.step !== 0) return null;
  if (after.loss - before.loss <= NOTABLE_SHARE * Math.abs(before.loss)) return null;
  return { before, after, best: evaluations.reduce((best, one) => (one.loss < best.loss ? one : best), before) };
}

/** The same as text. @param numberText - Writes a number */
export function worseText({ before, after, best }: HeldOutLoss, numberText: (value: number) => string): string {
  const isReward = after.group !== undefined;
  const valueText = ({ loss, group }: Evaluated) => numberText(group?.reward ?? loss);
  const change = isReward ? 'reward fell' : 'loss rose';
  const advice =
    best === before
      ? 'Lower the learning rate, or train fewer steps.'
      : `It was best after step ${best.step} (${valueText(best)}): train fewer steps, or set training.publish to best.`;
  return `The held-out ${change} from ${valueText(before)} to ${valueText(after)}: the adapter is worse than its base model on rows that it has not seen. ${advice}`;
}
