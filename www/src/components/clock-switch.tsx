import { setUtc, useUtc, zone } from '../time.ts';

/** Switches all times between the browser's time zone and UTC. */
export function ClockSwitch() {
  const utc = useUtc();
  const local = zone(Date.now(), false);
  return (
    <button
      type="button"
      class="quiet"
      aria-pressed={utc}
      title={utc ? `Times are in UTC. Change to ${local}` : `Times are in ${local}. Change to UTC`}
      onClick={() => setUtc(!utc)}
    >
      UTC
    </button>
  );
}
