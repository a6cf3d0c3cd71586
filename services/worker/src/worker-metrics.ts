import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { ERROR_CODES, type ErrorCode, type Job, type MachineEngine, type NewJobEvent } from '@lorasmith/contracts';
import { Counter, Gauge, Histogram, oncePerScrape, type Registry } from '@lorasmith/service-kit';
import type { AttemptOutcome } from './attempt-end.js';
import { readGpus } from './device/machine-load.js';

/** Buckets from a demo to a job of days. */
const JOB_SECONDS = [10, 60, 300, 1_800, 7_200, 21_600, 86_400, 259_200];
/** Buckets from a model of a few layers to billions of parameters on a CPU. */
const STEP_SECONDS = [0.01, 0.05, 0.2, 0.5, 1, 2, 5, 15, 60, 300];

/** These series exist from the start: Prometheus sees no increase in a series that starts at 1. */
const JOB_OUTCOMES = ['succeeded', 'cancelled', 'paused', 'released', 'lost'];
const CRASH_CODES: readonly ErrorCode[] = ['trainer_crashed', 'trainer_hung', 'out_of_memory', 'internal_error'];

const KNOWN_CODES: ReadonlySet<string> = new Set(ERROR_CODES);

/** Counts and times what a worker does to its jobs. */
export interface WorkerMetrics {
  /** @param attempt - From 1. */
  started(job: Pick<Job, 'created_at'>, attempt: number): AttemptMetrics;
}

/** Counts and times one attempt at a job. */
export interface AttemptMetrics {
  happened(event: NewJobEvent): void;
  ended(run: AttemptOutcome, seconds: number): void;
}

export function createWorkerMetrics(metrics: Registry): WorkerMetrics {
  const registers = [metrics];
  const wait = new Histogram({
    name: 'lorasmith_job_wait_seconds',
    help: 'Time from the request to the first worker that took the job.',
    buckets: JOB_SECONDS,
    registers,
  });
  const run = new Histogram({
    name: 'lorasmith_job_run_seconds',
    help: 'Duration of attempts, by outcome.',
    labelNames: ['outcome'],
    buckets: JOB_SECONDS,
    registers,
  });
  const attempts = new Counter({
    name: 'lorasmith_job_attempts_total',
    help: 'Finished attempts, by outcome and, if failed, error code.',
    labelNames: ['outcome', 'code'],
    registers,
  });
  for (const outcome of JOB_OUTCOMES) attempts.inc({ outcome, code: '' }, 0);
  for (const outcome of [...JOB_OUTCOMES, 'failed', 'retry']) run.zero({ outcome });
  for (const outcome of ['failed', 'retry']) for (const code of CRASH_CODES) attempts.inc({ outcome, code }, 0);
  const running = new Gauge({ name: 'lorasmith_jobs_running', help: 'Jobs that this worker is running.', registers });
  const step = new Histogram({
    name: 'lorasmith_training_step_seconds',
    help: 'Duration of an optimizer step.',
    buckets: STEP_SECONDS,
    registers,
  });
  const tokensPerSecond = new Gauge({
    name: 'lorasmith_training_tokens_per_second',
    help: 'Tokens per second in the last step of each job, added up; 0 between jobs.',
    registers,
  });
  const tokens = new Counter({
    name: 'lorasmith_training_tokens_total',
    help: 'Tokens read in optimizer steps, to within the precision of their time.',
    registers,
  });
  const saved = new Counter({ name: 'lorasmith_checkpoints_total', help: 'Checkpoints that were saved.', registers });

  return {
    started({ created_at }, attempt) {
      running.inc();
      if (attempt === 1) wait.observe(Math.max(0, (Date.now() - Date.parse(created_at)) / 1000));
      let lastEventMs: number | undefined;
      let ownTokensPerSecond = 0;
      const setTokensPerSecond = (value: number) => {
        tokensPerSecond.inc(value - ownTokensPerSecond);
        ownTokensPerSecond = value;
      };
      return {
        happened(event) {
          const now = performance.now();
          // Evaluations and checkpoints are events of their own, so what lies between one event and a step is the step; only
          // before the first one the base model is loaded.
          if (event.type === 'step-finished') {
            setTokensPerSecond(event.data.tokens_per_second);
            if (lastEventMs !== undefined) {
              const seconds = (now - lastEventMs) / 1000;
              step.observe(seconds);
              tokens.inc(event.data.tokens_per_second * seconds);
            }
          } else if (event.type === 'checkpoint-saved') {
            saved.inc();
          }
          // Answers are graded within a step.
          if (event.type !== 'answers-graded') lastEventMs = event.type === 'report-ready' ? undefined : now;
        },
        ended(result, seconds) {
          running.dec();
          setTokensPerSecond(0);
          const outcome = result.kind === 'ended' ? result.status : result.kind;
          run.observe({ outcome }, seconds);
          const code = 'failure' in result ? result.failure.code : '';
          attempts.inc({ outcome, code: code === '' || KNOWN_CODES.has(code) ? code : 'other' });
        },
      };
    },
  };
}

/** The outcome of a request for text. `left`: its caller did. `given-back`: another worker may answer it. */
export type GenerationOutcome = 'answered' | 'failed' | 'left' | 'given-back';

const GENERATION_OUTCOMES: readonly GenerationOutcome[] = ['answered', 'failed', 'left', 'given-back'];
/** Buckets from a loaded base to one of tens of GB that is loaded first. */
const FIRST_CHUNK_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120];

/** Counts and times the requests for text that a worker takes. */
export interface GenerationMetrics {
  started(): void;
  /** The first chunk of the answer is there. @param seconds - Since the worker took the request. */
  began(seconds: number): void;
  /** @param tokens - Counts of a complete answer. */
  ended(outcome: GenerationOutcome, tokens?: { prompt: number; completion: number }): void;
}

export function createGenerationMetrics(metrics: Registry): GenerationMetrics {
  const registers = [metrics];
  const open = new Gauge({
    name: 'lorasmith_generation_requests_open',
    help: 'Requests for text that this worker is answering.',
    registers,
  });
  const requests = new Counter({
    name: 'lorasmith_generation_requests_total',
    help: 'Requests for text that a worker took, by outcome.',
    labelNames: ['outcome'],
    registers,
  });
  const tokens = new Counter({
    name: 'lorasmith_generation_tokens_total',
    help: 'Tokens of complete answers: those of the prompts, and those that were generated.',
    labelNames: ['kind'],
    registers,
  });
  const first = new Histogram({
    name: 'lorasmith_generation_first_piece_seconds',
    help: 'Time from taking a request for text to the first piece of its answer, loading included.',
    buckets: FIRST_CHUNK_SECONDS,
    registers,
  });
  // Prometheus sees no increase in a series that starts at 1.
  for (const outcome of GENERATION_OUTCOMES) requests.inc({ outcome }, 0);
  for (const kind of ['prompt', 'completion']) tokens.inc({ kind }, 0);

  return {
    started: () => open.inc(),
    began: (seconds) => first.observe(seconds),
    ended(outcome, counts) {
      open.dec();
      requests.inc({ outcome });
      if (counts === undefined) return;
      tokens.inc({ kind: 'prompt' }, counts.prompt);
      tokens.inc({ kind: 'completion' }, counts.completion);
    },
  };
}

interface MachineMetricsOptions {
  workerName: string;
  /** The engine that it trains with. */
  engine: MachineEngine;
  /** Process number of the trainer that there is now. */
  trainerPid: () => number | undefined;
}

/** Reports what the machine of a worker has and uses: memory of the host, of the trainer, and of its GPUs. */
export function observeMachine(metrics: Registry, { workerName, engine, trainerPid }: MachineMetricsOptions): void {
  const registers = [metrics];
  const device = engine.kind === 'cpu' ? 'cpu' : 'gpu';
  new Gauge({
    name: 'lorasmith_worker_info',
    help: 'Always 1; its labels say which worker this is and what it trains on.',
    labelNames: ['worker', 'device'],
    registers,
  }).set({ worker: workerName, device }, 1);
  new Gauge({
    name: 'lorasmith_host_memory_bytes',
    help: 'Memory of the container, or of the machine if it has no limit.',
    labelNames: ['state'],
    registers,
    collect() {
      this.set({ state: 'total' }, Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY));
      this.set({ state: 'available' }, process.availableMemory());
    },
  });
  new Gauge({
    name: 'lorasmith_trainer_memory_bytes',
    help: 'Resident memory of the trainer process; 0 without one.',
    registers,
    async collect() {
      const pid = trainerPid();
      this.set(pid === undefined ? 0 : await residentBytes(pid));
    },
  });
  observeEngine(registers, engine);
  if (device === 'gpu') observeGpus(registers);
}

function observeEngine(registers: Registry[], { kind, card, self_test: tested }: MachineEngine): void {
  new Gauge({
    name: 'lorasmith_engine_info',
    help: 'Always 1; its labels say what the worker computes with, on which card, and the kernels that its self-test trusts.',
    labelNames: ['engine', 'card', 'compute_capability', 'driver', 'kernels'],
    registers,
  }).set(
    {
      engine: kind,
      card: card?.name ?? '',
      compute_capability: card?.compute_capability ?? '',
      driver: card?.driver ?? '',
      kernels: tested?.kernels ?? '',
    },
    1,
  );
  if (tested === null) return;
  const cases = new Gauge({
    name: 'lorasmith_self_test_cases',
    help: 'Computations of the CUDA engine that were compared with the CPU, by result.',
    labelNames: ['result'],
    registers,
  });
  cases.set({ result: 'right' }, tested.cases - tested.failed.length);
  cases.set({ result: 'wrong' }, tested.failed.length);
  const avoided = new Gauge({
    name: 'lorasmith_avoided_kernel_info',
    help: 'Always 1; one series for each fused kernel that is wrong on this card and replaced by plain ops.',
    labelNames: ['kernel'],
    registers,
  });
  for (const kernel of tested.avoided_kernels) avoided.set({ kernel }, 1);
}

function observeGpus(registers: Registry[]): void {
  const look = oncePerScrape(() => readGpus());
  new Gauge({
    name: 'lorasmith_device_memory_bytes',
    help: 'Memory of each GPU that this worker sees.',
    labelNames: ['gpu', 'state'],
    registers,
    async collect() {
      this.reset();
      for (const { index, usedBytes, totalBytes } of await look()) {
        this.set({ gpu: index, state: 'used' }, usedBytes);
        this.set({ gpu: index, state: 'total' }, totalBytes);
      }
    },
  });
  new Gauge({
    name: 'lorasmith_device_busy_ratio',
    help: 'GPU utilization over the last second, from 0 to 1.',
    labelNames: ['gpu'],
    registers,
    async collect() {
      this.reset();
      for (const { index, busyRatio } of await look()) this.set({ gpu: index }, busyRatio);
    },
  });
}

/** 0 for a process that has ended. */
async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}
