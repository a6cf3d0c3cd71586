import { createHash } from 'node:crypto';
import { askedGraderOf, type GradingBody, type JobRequest, type Judge, type JudgedItem } from '@lorasmith/contracts';
import { scoreReader } from '@lorasmith/graders';
import type { PendingGrading } from '@lorasmith/queue';
import type { Caller } from '@lorasmith/service-kit';
import type { JudgeClient, Unsaid } from '../judging/judge-client.js';
import type { Answered, GraderClient } from './grading-sender.js';

/** Scores in memory, so that an answer is asked for once, although another of its request failed. */
const MAX_KEPT = 10_000;
/** Characters that an error quotes of what a model has said. */
const QUOTED_CHARACTERS = 100;

type Scored = { kind: 'scored'; score: number; tokens: number };

/** Has models score answers. */
export class Judges implements GraderClient<Judge> {
  readonly named = 'The model that scores answers';
  readonly #client: Pick<JudgeClient, 'check' | 'say'>;
  readonly #kept = new Map<string, number>();

  constructor(client: Pick<JudgeClient, 'check' | 'say'>) {
    this.#client = client;
  }

  /**
   * Checks the judge of a job, where it has one.
   * @throws ProductError `invalid_job` for a server that may not be asked, or a model that this service has not
   */
  async check({ objective }: Pick<JobRequest, 'objective'>, caller: Caller): Promise<void> {
    const judge = objective?.grader === undefined ? null : askedGraderOf(objective.grader);
    if (judge?.kind !== 'judge') return;
    await this.#client.check(judge, caller, { code: 'invalid_job', param: 'objective.grader' });
  }

  async ask({ owner, grader, body }: PendingGrading & { grader: Judge }, signal: AbortSignal): Promise<Answered> {
    const items = (JSON.parse(body) as Omit<GradingBody, 'data'> & { data: { items: JudgedItem[] } }).data.items;
    const read = scoreReader(grader);
    const scored = await Promise.all(
      items.map(async ({ line, message }): Promise<Scored | Unsaid> => {
        const key = createHash('sha256')
          .update(JSON.stringify([grader, message]))
          .digest('base64');
        const known = this.#kept.get(key);
        if (known !== undefined) return { kind: 'scored', score: known, tokens: 0 };
        const said = await this.#client.say(grader, message, owner, signal);
        if (said.kind !== 'said') return said;
        const score = read(said.text);
        if (score === null) return { kind: 'try-again', why: withoutScore(grader, said.text, line) };
        this.#keep(key, score);
        return { kind: 'scored', score, tokens: said.tokens };
      }),
    );
    const failed = (kind: Unsaid['kind']) => scored.find((one): one is Unsaid => one.kind === kind);
    const failure = failed('wrong') ?? failed('try-again');
    if (failure !== undefined) return failure;
    const all = scored as Scored[];
    return {
      kind: 'graded',
      rewards: all.map(({ score }) => score),
      judgeTokens: all.reduce((sum, { tokens }) => sum + tokens, 0),
    };
  }

  #keep(key: string, score: number): void {
    this.#kept.set(key, score);
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
  }
}

function withoutScore({ range: [least, highest] }: Judge, said: string, line: number): string {
  const quoted = JSON.stringify(said.trim().slice(0, QUOTED_CHARACTERS));
  return `of the answer to line ${line} it said ${quoted}, which has no score from ${least} to ${highest}. Ask for a number alone, or set pattern and range.`;
}
