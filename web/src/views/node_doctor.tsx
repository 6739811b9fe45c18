/* What will lose GPUs one day: the node runs `kohakuriver doctor` when somebody asks. */
import { useState } from 'preact/hooks';
import { path } from '../api/client.ts';
import { Empty, ErrorNote, Loading, Section } from '../ui/parts.tsx';
import { useRest } from '../ui/use_rest.ts';

interface Finding {
  id: string;
  outcome: 'error' | 'warning' | 'unknown' | 'ok' | 'not_applicable';
  title: string;
  seen?: string;
  why?: string;
  fix?: string | null;
}

interface Report {
  summary: { errors: number; warnings: number; unknown: number; ok: number; not_applicable: number };
  checks: Finding[];
}

const ORDER = ['error', 'warning', 'unknown'];

function counted(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}

function Findings({ report }: { report: Report }) {
  const s = report.summary;
  const shown = report.checks.filter((check) => ORDER.includes(check.outcome)).sort((a, b) => ORDER.indexOf(a.outcome) - ORDER.indexOf(b.outcome));
  return (
    <>
      <p class="sub">
        {counted(s.errors, 'error')}, {counted(s.warnings, 'warning')}, {s.unknown} unknown, {s.ok} ok, {s.not_applicable} do not apply
      </p>
      <ul class="findings">
        {shown.map((check) => (
          <li key={check.id} class={check.outcome}>
            <b>
              {check.outcome}: {check.title}
            </b>
            {check.seen && <span>{check.seen}</span>}
            {check.why && <span>{check.why}</span>}
            {check.fix && <code>{check.fix}</code>}
          </li>
        ))}
      </ul>
    </>
  );
}

export function Doctor({ name }: { name: string }) {
  const [isAsked, setAsked] = useState(false);
  const rest = useRest<Report>(isAsked ? path('nodes', name, 'doctor') : undefined);
  const run = (): void => (isAsked ? rest.again() : setAsked(true));
  return (
    <Section
      title="Doctor"
      tools={
        <button type="button" class="small" disabled={rest.isLoading} onClick={run}>
          {rest.data ? 'Look again' : 'Look now'}
        </button>
      }
    >
      {!isAsked && <Empty>Looks on the node for what will lose GPUs one day. It changes nothing.</Empty>}
      {rest.isLoading && <Loading />}
      {rest.error && <ErrorNote error={rest.error} again={rest.again} />}
      {rest.data && <Findings report={rest.data} />}
    </Section>
  );
}
