import { type Job, ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { throwAsFineTuningFault } from './fine-tuning-job.js';

test.each([
  ['supervised', null],
  ['dpo', { kind: 'preference' }],
  ['reinforcement', { kind: 'group-relative' }],
] as const)(
  'a fault names the hyperparameter of the method %s',
  (method, objective: Pick<NonNullable<Job['objective']>, 'kind'> | null) => {
    const details = [
      { code: 'invalid_job', message: 'Too many.', param: 'training.batch_size' },
      { code: 'invalid_job', message: 'Not these rows.', param: 'dataset' },
      { code: 'invalid_job', message: 'Nowhere.' },
    ] as const;
    const fault = new ProductError('invalid_job', 'Two faults.', { param: 'training.epochs', details: [...details] });
    const [batchSize, rows, nowhere] = details;
    expect(() => throwAsFineTuningFault(fault, objective)).toThrow(
      expect.objectContaining({
        param: `method.${method}.hyperparameters.n_epochs`,
        details: [
          { ...batchSize, param: `method.${method}.hyperparameters.batch_size` },
          { ...rows, param: 'training_file' },
          nowhere,
        ],
      }),
    );
  },
);
