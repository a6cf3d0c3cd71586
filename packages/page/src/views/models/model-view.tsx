import { bytesText, countText } from '@lorasmith/client/core';
import type { BaseModelDetail } from '@lorasmith/contracts';
import { CodeBlock } from '../../components/copy-button.js';
import { type Column, DataTable, Facts } from '../../components/data-table.js';
import { Loaded } from '../../components/error-notice.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { Link } from '../../location.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { type ModuleGroup, moduleGroups } from './module-groups.js';

const COLUMNS: readonly Column<ModuleGroup>[] = [
  { title: 'Target', cell: ({ name }) => <code>{name}</code> },
  { title: 'Layers', isNumber: true, cell: ({ layers }) => countText(layers) },
  {
    title: 'Inputs → outputs',
    cell: ({ shapes }) => shapes.map(([inputs, outputs]) => `${countText(inputs)} → ${countText(outputs)}`).join(', '),
  },
  { title: 'Trained parameters for each rank', isNumber: true, cell: (group) => countText(group.parametersPerRank) },
];

/** One base model: what it is, how it reads text, and what of it can be adapted. */
export function ModelView({ params }: ViewProps) {
  const client = useClient();
  const name = params.name!;
  const model = usePolled((signal) => client.model(name, { signal }), [client, name], { everyMs: null });
  return (
    <>
      <ViewHead title={name}>
        {model.value?.problem === null && (
          <Link to="/new-job" query={{ base_model: name }} class="button primary">
            New job
          </Link>
        )}
      </ViewHead>
      <Loaded from={model} what="the base model">
        {(value) => <Detail model={value} />}
      </Loaded>
    </>
  );
}

function Detail({ model }: { model: BaseModelDetail }) {
  const { family, parameters, bytes, dtype, max_positions: positions, problem, modules, text, origin } = model;
  const experts = model.expert_parameters;
  return (
    <>
      {problem !== null && (
        <div class="notice notice-error">
          <p class="notice-title">This model cannot be used</p>
          <p>{problem.message}</p>
          <p class="fine-print">
            <code>{problem.code}</code>
          </p>
        </div>
      )}
      <Facts
        entries={[
          ['Family', family],
          ['Parameters', parameters === null ? null : countText(parameters)],
          ['Weights', `${bytesText(bytes)}${dtype === null ? '' : ` ${dtype}`}`],
          [
            'Pulled from',
            origin === null ? null : `${origin.repo} at ${origin.revision} (${origin.commit.slice(0, 12)})`,
          ],
          ['Context', positions === null ? null : `${countText(positions)} tokens`],
        ]}
      />
      {modules.length > 0 && (
        <section class="view-section" aria-labelledby="targets-title">
          <h2 id="targets-title">What can be adapted</h2>
          <p>
            Names for <code>target_modules</code>. <code>all-linear</code> is all of them.
          </p>
          <DataTable
            caption="Layers that can be adapted"
            columns={COLUMNS}
            rows={moduleGroups(modules)}
            keyOf={(group) => group.name}
          />
          {experts.length > 0 && (
            <>
              <p>
                Names for <code>target_parameters</code>: the experts, each with an adapter of its own.
              </p>
              <DataTable
                caption="Experts that can be adapted"
                columns={COLUMNS}
                rows={moduleGroups(experts)}
                keyOf={(group) => group.name}
              />
            </>
          )}
        </section>
      )}
      {text !== null && <TextFacts text={text} />}
    </>
  );
}

function TextFacts({ text }: { text: NonNullable<BaseModelDetail['text']> }) {
  const token = (value: string | null) => (value === null ? 'none' : <code>{value}</code>);
  const { problem, chat_template: template } = text;
  return (
    <section class="view-section" aria-labelledby="text-title">
      <h2 id="text-title">Text</h2>
      {problem !== null && (
        <div class="notice notice-error">
          <p>{problem.message}</p>
        </div>
      )}
      <Facts
        entries={[
          ['Vocabulary', `${countText(text.vocab_size)} tokens`],
          ['Start of a text', token(text.bos_token)],
          ['End of a text', token(text.eos_token)],
          ['Padding, which is not used', token(text.pad_token)],
        ]}
      />
      {template === null ? (
        <p>
          The model has no chat template: it is trained on prompts and texts, not on <code>messages</code>.
        </p>
      ) : (
        <details>
          <summary>Chat template</summary>
          <CodeBlock text={template} what="the chat template" />
        </details>
      )}
    </section>
  );
}
