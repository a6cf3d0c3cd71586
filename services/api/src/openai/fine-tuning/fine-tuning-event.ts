import type { FineTuningEvent, JobEvent } from '@lorasmith/contracts';
import { unixSeconds } from '../files/openai-file.js';

type Said = Pick<FineTuningEvent, 'message'> & Partial<Pick<FineTuningEvent, 'level' | 'type' | 'data'>>;

/** An event of a job as the OpenAI API has it: a sentence, and the numbers of steps and evaluations. */
export function fineTuningEventOf(event: JobEvent): FineTuningEvent {
  const { id, created_at: createdAt } = event;
  const { message, level = 'info', type = 'message', data = {} } = saidOf(event);
  return { id, object: 'fine_tuning.job.event', created_at: unixSeconds(createdAt), level, message, type, data };
}

function saidOf(event: JobEvent): Said {
  switch (event.type) {
    case 'job-queued':
      return { message: `Created fine-tuning job: ${event.job}` };
    case 'job-started':
      return { message: `A worker has started attempt ${event.data.attempt} and validates the files` };
    case 'tokenizing-progressed':
      return { message: `Tokenized ${event.data.rows} of ${event.data.total_rows} rows` };
    case 'reference-progressed':
      return { message: `The reference has read ${event.data.pairs} of ${event.data.total_pairs} rows` };
    case 'report-ready': {
      const { steps, rows, warnings } = event.data.report;
      const message = `Files validated: training ${steps.total} steps on ${rows.training} rows`;
      if (warnings.length === 0) return { message };
      return { message: [message, ...warnings.map((warning) => warning.message)].join('. '), level: 'warn' };
    }
    case 'step-finished': {
      const { step, total_steps, loss, learning_rate, grad_norm, preference, group } = event.data;
      const message = `Step ${step}/${total_steps}: training loss=${loss.toFixed(2)}`;
      return {
        message,
        type: 'metrics',
        data: { step, total_steps, train_loss: loss, learning_rate, grad_norm, ...preference, ...group },
      };
    }
    case 'evaluation-finished': {
      const { step, loss, preference, group } = event.data;
      const when = step === 0 ? 'Before training' : `After step ${step}`;
      return {
        message: `${when}: full validation loss=${loss.toFixed(2)}`,
        type: 'metrics',
        data: { step, full_valid_loss: loss, ...preference, ...group },
      };
    }
    case 'samples-generated':
      return { message: `Generated ${event.data.samples.length} samples after step ${event.data.step}` };
    case 'answers-graded':
      return { message: `Graded the answers of step ${event.data.step}` };
    case 'checkpoint-saved':
      return { message: `Saved a checkpoint of step ${event.data.step}` };
    case 'checkpoint-loaded':
      return { message: `Training continues after step ${event.data.step}` };
    case 'training-stopped-early':
      return { message: `Stopped early after step ${event.data.step}: the best was step ${event.data.best_step}` };
    case 'adapter-published':
      return { message: 'The job has successfully completed' };
    case 'job-failed':
      return { message: `The job failed: ${event.data.error.message}`, level: 'error' };
    case 'job-cancelled':
      return { message: 'The job was cancelled' };
    case 'job-paused':
      return { message: 'The job is paused' };
    case 'job-resumed':
      return { message: 'The job is resumed' };
  }
}
