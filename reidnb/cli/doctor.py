"`reidnb doctor`: what is installed and what was found."

from reidnb.cli.arguments import add_command


def add_to(commands):
    add_command(commands, "doctor", run, text="What is installed, what was found, and what each preset can run.")


def run(args):
    from reidnb.runs.doctor import examine

    print("\n".join(examine()))
