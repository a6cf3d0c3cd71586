import type { BaseModel } from '@lorasmith/contracts';
import { ErrorNotice } from '../../components/error-notice.js';
import { Link, navigate } from '../../location.js';
import { useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { examplePrompts, exampleRows } from './example-rows.js';

const EXAMPLE = {
  name: 'example-dates',
  'validation.split': '0.1',
  'training.max_steps': '60',
  'training.learning_rate': '0.001',
  'training.eval_every_steps': '20',
  'samples.prompts': examplePrompts(),
  'samples.held_out_rows': '24',
  'samples.max_tokens': '16',
};

/** The way to a first adapter where there is nothing yet. */
export function FirstAdapter({ text }: { text: string }) {
  const client = useClient();
  const may = useMay('change');
  const example = useAction(async (signal) => {
    const models = await client.models({ signal });
    const rows = new Blob([exampleRows()]);
    const { id } = await client.uploadDataset({ blob: rows }, { name: `${EXAMPLE.name}.jsonl`, signal });
    navigate('/new-job', { ...EXAMPLE, dataset: id, base_model: smallestOf(models)?.name });
  });
  if (!may) return <p class="muted">{text}</p>;
  return (
    <section class="card empty">
      <h2>Train your first adapter</h2>
      <p>{text} Begin with your data, or with ours: dates that become ISO dates, on the smallest base model.</p>
      <div class="buttons">
        <button type="button" class="primary" disabled={example.isBusy} onClick={() => example.run()}>
          Use the example data
        </button>
        <Link to="/datasets" class="button">
          Upload a dataset
        </Link>
      </div>
      <ErrorNotice error={example.error} what="The example data were not stored" />
    </section>
  );
}

/** The base model that trains fastest; undefined if there is none. */
function smallestOf(models: readonly BaseModel[]): BaseModel | undefined {
  return models
    .filter(({ problem, family }) => problem === null && family !== 'classifier')
    .sort((one, other) => one.bytes - other.bytes)[0];
}
