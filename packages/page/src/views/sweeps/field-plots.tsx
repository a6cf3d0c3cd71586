import type { Sweep, SweepVariant } from '@lorasmith/contracts';
import { useId } from 'preact/hooks';
import { numberText } from '../../charts/chart-values.js';
import { ScrollRegion } from '../../components/data-table.js';
import { fieldAxis, metricAxis, type ValueAxis, type VariedField, variantText } from './sweep-variants.js';

export interface FieldPlotsProps {
  sweep: Sweep;
  fields: readonly VariedField[];
  /** The colour of a variant. */
  colorOf: (one: SweepVariant) => number;
}

/** A variant that has a metric. */
interface Result {
  one: SweepVariant;
  metric: number;
  /** Its values and its metric. */
  text: string;
  class: string;
}

/** Each field against the metric, and all fields next to each other. The table of the variants says the same. */
export function FieldPlots({ sweep, fields, colorOf }: FieldPlotsProps) {
  const results = sweep.variants.flatMap((one): Result[] => {
    const { metric, job } = one;
    if (metric === null) return [];
    const text = `${variantText(fields, one)}: ${numberText(metric)}`;
    return [{ one, metric, text, class: `series-${colorOf(one)}${job === sweep.best ? ' best' : ''}` }];
  });
  if (results.length === 0) return null;
  const said = results.map(({ text }) => text).join('; ');
  const metric = metricAxis(
    `Held-out ${sweep.metric}`,
    results.map((result) => result.metric),
  );
  const axes = fields.map(({ path, label }) => ({
    path,
    axis: fieldAxis(
      label,
      sweep.variants.map(({ values }) => values[path] ?? null),
    ),
  }));
  return (
    <section class="view-section" aria-label="Fields and the metric">
      <h2>Fields and the {sweep.metric}</h2>
      <div class="charts">
        {axes.map(({ path, axis }) => (
          <FieldPoints key={path} path={path} axis={axis} metric={metric} results={results} said={said} />
        ))}
        <ParallelCoordinates axes={axes} metric={metric} results={results} said={said} />
      </div>
    </section>
  );
}

const [WIDTH, HEIGHT] = [400, 220];
/** Around the points: the texts of the axes stand there. */
const PADDING = { left: 64, right: 60, top: 12, bottom: 28 };

interface FieldPointsProps {
  path: string;
  axis: ValueAxis;
  metric: ValueAxis;
  results: readonly Result[];
  /** The texts of all results. */
  said: string;
}

function FieldPoints({ path, axis, metric, results, said }: FieldPointsProps) {
  const id = useId();
  const bottom = HEIGHT - PADDING.bottom;
  const x = (position: number) => PADDING.left + position * (WIDTH - PADDING.left - PADDING.right);
  const y = (position: number) => bottom - 8 - position * (bottom - 16 - PADDING.top);
  return (
    <figure class="card chart" aria-labelledby={id}>
      <figcaption>
        <h3 id={id}>{axis.title}</h3>
      </figcaption>
      <svg
        class="plot"
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`${metric.title} over ${axis.title}: ${said}`}
      >
        <line class="plot-axis" x1={PADDING.left} x2={WIDTH} y1={bottom} y2={bottom} />
        <line class="plot-axis" x1={PADDING.left} x2={PADDING.left} y1={0} y2={bottom} />
        {axis.ticks.map(({ text, at }) => (
          <text key={at} x={x(at)} y={bottom + 18} text-anchor="middle">
            {shortened(text)}
          </text>
        ))}
        {metric.ticks.map(({ text, at }) => (
          <text key={at} x={PADDING.left - 8} y={y(at) + 4} text-anchor="end">
            {text}
          </text>
        ))}
        {results.map(({ one, metric: value, text, class: name }) => (
          <circle
            key={one.variant}
            class={name}
            cx={x(axis.at(one.values[path] ?? null))}
            cy={y(metric.at(value))}
            r={5}
          >
            <title>{text}</title>
          </circle>
        ))}
      </svg>
    </figure>
  );
}

/** The distance of two axes. */
const AXIS_DISTANCE = 150;
/** The position of the first axis: the texts of its ticks stand before it. */
const FIRST_AXIS = 100;

interface ParallelCoordinatesProps {
  axes: readonly { path: string; axis: ValueAxis }[];
  metric: ValueAxis;
  results: readonly Result[];
  /** The texts of all results. */
  said: string;
}

/** An axis for each field and for the metric, and each variant as a line through its values. */
function ParallelCoordinates({ axes, metric, results, said }: ParallelCoordinatesProps) {
  const id = useId();
  const all = [...axes.map(({ axis }) => axis), metric];
  const [top, bottom] = [36, HEIGHT - 12];
  const x = (index: number) => FIRST_AXIS + index * AXIS_DISTANCE;
  const width = x(axes.length) + AXIS_DISTANCE / 2;
  const y = (position: number) => bottom - position * (bottom - top);
  const points = ({ one, metric: value }: Result) => {
    const positions = [...axes.map(({ path, axis }) => axis.at(one.values[path] ?? null)), metric.at(value)];
    return positions.map((position, index) => `${x(index)},${y(position).toFixed(1)}`).join(' ');
  };
  return (
    <figure class="card chart" aria-labelledby={id}>
      <figcaption>
        <h3 id={id}>All fields</h3>
      </figcaption>
      <ScrollRegion label="Parallel coordinates">
        <svg
          class="plot"
          viewBox={`0 0 ${width} ${HEIGHT}`}
          width={width}
          height={HEIGHT}
          role="img"
          aria-label={`Each variant as a line through its values and its metric: ${said}`}
        >
          {results.map((result) => (
            <polyline key={result.one.variant} class={result.class} points={points(result)}>
              <title>{result.text}</title>
            </polyline>
          ))}
          {all.map(({ title, ticks }, index) => (
            <g key={index}>
              <line class="plot-axis" x1={x(index)} x2={x(index)} y1={top} y2={bottom} />
              <text x={x(index)} y={16} text-anchor="middle">
                {shortened(title)}
              </text>
              {ticks.map(({ text, at }) => (
                <text key={at} {...besideAxis(x(index), index === axes.length)} y={y(at) + 4}>
                  {shortened(text)}
                </text>
              ))}
            </g>
          ))}
        </svg>
      </ScrollRegion>
    </figure>
  );
}

/** The position of an axis's texts: outside of the lines at the last one. */
function besideAxis(x: number, isLast: boolean): { x: number; 'text-anchor': 'start' | 'end' } {
  return isLast ? { x: x + 6, 'text-anchor': 'start' } : { x: x - 6, 'text-anchor': 'end' };
}

const MAX_CHARACTERS = 18;

/** A text that does not reach another axis. Its title, or the table, has all of it. */
function shortened(text: string): string {
  return text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS - 1)}…` : text;
}
