"""What register banks cost the FFMAs of a kernel's loops, read off its SASS.

    cuobjdump -sass KERNEL.cubin | python3 banks.py

The model, which was within 1 % of an H100's counters for two kernels and 11 % too high for a third (README.md): even and odd
registers are two banks, an FFMA waits one more cycle for each further operand of the same bank, and an operand is read from no bank if
the FFMA before it held it in the same place with `.reuse`.
"""

import re
import sys


def loops(lines):
    """The instructions of each backward branch's body that has more than 100 FFMAs."""
    code = []
    for line in lines:
        found = re.match(r"\s+/\*([0-9a-f]{4,5})\*/\s+(.*?);", line)
        if found:
            code.append((int(found[1], 16), found[2].strip()))
    at = {address: index for index, (address, _) in enumerate(code)}
    for index, (address, text) in enumerate(code):
        target = re.search(r"BRA.* 0x([0-9a-f]+)", text)
        start = at.get(int(target[1], 16)) if target else None
        if start is not None and start < index:
            body = [text for _, text in code[start : index + 1]]
            if sum("FFMA" in text for text in body) > 100:
                yield address, body


def cost(body):
    """FFMAs, the cycles in which they read their operands, and how many read two or three operands of one bank."""
    held, count, cycles, conflicts = {}, 0, 0, 0
    for text in body:
        found = re.match(r"(?:@!?U?P\w+ )?FFMA\S* R\w+, (-?R\w+\S*), (-?R\w+\S*), (-?R\w+\S*)$", text)
        if not found:
            held = {}
            continue
        banks, hold, seen = [0, 0], {}, set()
        for place, operand in enumerate(found.groups()):
            register = re.search(r"R(\d+|Z)", operand)[1]
            if register == "Z":
                continue
            register = int(register)
            if held.get(place) != register and register not in seen:
                banks[register % 2] += 1
            seen.add(register)
            if ".reuse" in operand:
                hold[place] = register
        held = hold
        count += 1
        cycles += max(1, *banks)
        conflicts += max(banks) > 1
    return count, cycles, conflicts


def main():
    for address, body in loops(sys.stdin):
        count, cycles, conflicts = cost(body)
        others = len(body) - count
        print(
            f"loop that ends at {address:#x}: {count} FFMAs of {len(body)} instructions, {conflicts} with bank conflicts, "
            f"{(others + cycles) / count:.3f} cycles an FFMA"
        )


if __name__ == "__main__":
    main()
